package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

func names(n int) []string {
	labels := make([]string, n)
	for i := range labels {
		labels[i] = "intent " + string(rune('a'+i/26)) + string(rune('a'+i%26))
	}
	return labels
}

func checkpoint(t testing.TB, size string, labels int) *Checkpoint {
	t.Helper()
	l, err := NewLayout(size, labels)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCheckpoint("support <desk> & co", size, 7, names(labels), l.Init(1))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckpointRoundTrip(t *testing.T) {
	for size := range sizes {
		c := checkpoint(t, size, 21)
		c.Params[3] = float32(math.Copysign(0, -1))
		c.Params[4] = math.SmallestNonzeroFloat32
		c.Params[5] = math.MaxFloat32
		b := c.Encode() // the manifest's hash is computed anew
		got, err := DecodeCheckpoint(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Encode(), b) {
			t.Errorf("%s: encoding the decoded checkpoint gives other bytes", size)
		}
		for i := range c.Params {
			if math.Float32bits(got.Params[i]) != math.Float32bits(c.Params[i]) {
				t.Fatalf("%s: parameter %d is %v, want %v", size, i, got.Params[i], c.Params[i])
			}
		}
		if m := got.Manifest; m.Task != c.Manifest.Task || m.Round != 7 || m.Size != size || len(m.Labels) != 21 || m.Labels[20] != c.Manifest.Labels[20] {
			t.Errorf("manifest is %+v, want %+v", m, c.Manifest)
		}
		if err := got.Manifest.CheckTokeniser(); err != nil {
			t.Error(err)
		}
	}
}

// rewritten returns a checkpoint's bytes with its manifest changed as JSON, lengths and hashes made to fit again.
func rewritten(t *testing.T, b []byte, change func(m *Manifest)) []byte {
	t.Helper()
	n := binary.LittleEndian.Uint32(b[8:])
	var m Manifest
	if err := json.Unmarshal(b[12:12+n], &m); err != nil {
		t.Fatal(err)
	}
	change(&m)
	return withManifest(b, m.encode())
}

func withManifest(b, manifest []byte) []byte {
	n := binary.LittleEndian.Uint32(b[8:])
	out := append([]byte(magic), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(out[8:], uint32(len(manifest)))
	return append(append(out, manifest...), b[12+n:]...)
}

func TestDecodeCheckpointRefuses(t *testing.T) {
	good := checkpoint(t, "small", 3).Encode()
	n := int(binary.LittleEndian.Uint32(good[8:]))
	edit := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	manifest := func(change func(m *Manifest)) []byte { return rewritten(t, good, change) }
	text := string(good[12 : 12+n])
	nan := edit(func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[12+n+40:], math.Float32bits(float32(math.NaN())))
		return rewritten(t, b, func(m *Manifest) { sum := sha256.Sum256(b[12+n:]); m.ParametersSHA256 = hex.EncodeToString(sum[:]) })
	})
	for _, c := range []struct {
		name, want string
		b          []byte
	}{
		{"nothing", "not a checkpoint", nil},
		{"a magic alone", "not a checkpoint", good[:8]},
		{"another magic", "not a checkpoint", edit(func(b []byte) []byte { b[0] ^= 1; return b })},
		{"a manifest past the end", "manifest of", good[:20]},
		{"a huge manifest", "manifest of", edit(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[8:], math.MaxUint32); return b })},
		{"broken JSON", "manifest", withManifest(good, []byte(text[:n-2]))},
		{"an empty manifest", "manifest", withManifest(good, nil)},
		{"an unknown field", "not written as", withManifest(good, []byte(strings.Replace(text, "{", `{"x":1,`, 1)))},
		{"spaces", "not written as", withManifest(good, []byte(text+" "))},
		{"a later format", "format 2", manifest(func(m *Manifest) { m.Format = 2 })},
		{"no task", "task", manifest(func(m *Manifest) { m.Task = "" })},
		{"a task with a line break", "task", manifest(func(m *Manifest) { m.Task = "a\nb" })},
		{"a long task", "task of", manifest(func(m *Manifest) { m.Task = strings.Repeat("a", MaxTaskBytes+1) })},
		{"an unknown size", "unknown", manifest(func(m *Manifest) { m.Size = "large" })},
		{"another size's layout", "layout", manifest(func(m *Manifest) { m.Size = "base" })},
		{"a wrong layout", "layout", manifest(func(m *Manifest) { m.Layout.Rows = 1 << 30 })},
		{"a later tokeniser", "tokeniser version 3, this build has 1 to 2; later ones need a later build", manifest(func(m *Manifest) { m.TokeniserVersion = 3 })},
		{"no tokeniser", "tokeniser version 0", manifest(func(m *Manifest) { m.TokeniserVersion = 0 })},
		{"a tokeniser below all", "tokeniser version -1", manifest(func(m *Manifest) { m.TokeniserVersion = -1 })},
		{"a tokeniser far above", "tokeniser version 2147483647", manifest(func(m *Manifest) { m.TokeniserVersion = math.MaxInt32 })},
		{"a broken digest", "tokeniser digest", manifest(func(m *Manifest) { m.TokeniserDigest = "zz" })},
		{"one label", "labels", manifest(func(m *Manifest) { m.Labels, m.Layout.Labels = m.Labels[:1], 1 })},
		{"more labels than parameters", "bytes of parameters", manifest(func(m *Manifest) { m.Labels, m.Layout.Labels = names(4), 4 })},
		{"too many labels", "labels", manifest(func(m *Manifest) { m.Labels = make([]string, MaxLabels+1) })},
		{"a repeated label", "repeats", manifest(func(m *Manifest) { m.Labels[2] = m.Labels[0] })},
		{"an empty label", "label", manifest(func(m *Manifest) { m.Labels[1] = "" })},
		{"a label with spaces around", "label", manifest(func(m *Manifest) { m.Labels[1] = " a" })},
		{"a long label", "label of", manifest(func(m *Manifest) { m.Labels[1] = strings.Repeat("a", MaxLabelBytes+1) })},
		{"bytes missing", "bytes of parameters", good[:len(good)-1]},
		{"bytes left over", "bytes of parameters", append(bytes.Clone(good), 0)},
		{"a flipped bit", "damaged", edit(func(b []byte) []byte { b[len(b)-3] ^= 4; return b })},
		{"another hash", "damaged", manifest(func(m *Manifest) { m.ParametersSHA256 = strings.Repeat("0", 64) })},
		{"NaN", "parameter 10 is NaN", nan},
	} {
		got, err := DecodeCheckpoint(c.b)
		if err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got a checkpoint %t and error %v, want an error about %q", c.name, got != nil, err, c.want)
		}
	}
}

func TestNewCheckpointRefuses(t *testing.T) {
	l, _ := NewLayout("small", 3)
	infinite := l.Init(1)
	infinite[9] = float32(math.Inf(-1))
	for _, c := range []struct {
		name, task, size string
		labels           []string
		params           []float32
	}{
		{"size", "t", "tiny", names(3), l.Init(1)},
		{"task", "", "small", names(3), l.Init(1)},
		{"length", "t", "small", names(4), l.Init(1)},
		{"label", "t", "small", []string{"a", "b", "a"}, l.Init(1)},
		{"infinity", "t", "small", names(3), infinite},
	} {
		if _, err := NewCheckpoint(c.task, c.size, 0, c.labels, c.params); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

func TestCheckTokeniserTellsBuildsApart(t *testing.T) {
	m := checkpoint(t, "small", 3).Manifest
	m.TokeniserDigest = strings.Repeat("0", 64)
	if err := m.CheckTokeniser(); err == nil {
		t.Error("another digest is accepted for training")
	}
	m = checkpoint(t, "small", 3).Manifest
	m.TokeniserVersion = LatestTokeniser + 1
	if err := m.CheckTokeniser(); err == nil || !strings.Contains(err.Error(), "need a later build") {
		t.Errorf("an unknown version: %v", err)
	}
}

// A task keeps the tokeniser that it began with, and hands it on.
func TestTokeniserStaysWithTheTask(t *testing.T) {
	c := checkpoint(t, "small", 3)
	c.Manifest.TokeniserVersion, c.Manifest.TokeniserDigest = Tokeniser1, Tokeniser1.Digest()
	c, err := DecodeCheckpoint(c.Encode())
	if err != nil {
		t.Fatal(err)
	}
	next, err := c.Next(c.Params)
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := c.Manifest.Intents().Change(IntentChange{Kind: AddIntent, Name: "more"})
	if err != nil {
		t.Fatal(err)
	}
	grown, err := c.WithIntents(renamed)
	if err != nil {
		t.Fatal(err)
	}
	begun, err := c.Begin("another", []string{"x", "y"})
	if err != nil {
		t.Fatal(err)
	}
	text := "transferring money"
	want := fmt.Sprint(Tokeniser1.Featurise(text))
	for name, c := range map[string]*Checkpoint{"read": c, "next": next, "with an intent more": grown, "of a task that goes on from it": begun} {
		if err := c.Manifest.CheckTokeniser(); c.Manifest.TokeniserVersion != Tokeniser1 || err != nil {
			t.Errorf("%s: version %d, %v; want 1", name, c.Manifest.TokeniserVersion, err)
		}
		classifier := NewClassifier(c)
		if got := fmt.Sprint(classifier.Featurise(text)); got != want {
			t.Errorf("%s: features are %s, want %s", name, got, want)
		}
		parts := 0
		for _, p := range classifier.Explain(text).Parts {
			parts += p.Times
		}
		if want := len(Tokeniser1.Featurise(text)); parts != want {
			t.Errorf("%s: an explanation of %d features, want %d", name, parts, want)
		}
	}
}

func FuzzDecodeCheckpoint(f *testing.F) {
	good := checkpoint(f, "small", 2).Encode()
	n := binary.LittleEndian.Uint32(good[8:])
	f.Add(good[:12+n]) // whole checkpoints would be a megabyte each
	f.Add(good[:12])
	f.Add([]byte(magic + "\x02\x00\x00\x00{}"))
	f.Add([]byte{})
	parameters := good[12+n:]
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCheckpoint(b)
		if err != nil && strings.Contains(err.Error(), "bytes of parameters") {
			b = append(bytes.Clone(b), parameters...)
			c, err = DecodeCheckpoint(b)
		}
		if (c == nil) == (err == nil) {
			t.Fatalf("got checkpoint %t and error %v", c != nil, err)
		}
		if err == nil && !bytes.Equal(c.Encode(), b) {
			t.Fatal("a checkpoint is accepted that Encode would not write")
		}
	})
}
