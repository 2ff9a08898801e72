package checkpointlog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the vectors in testdata")

const vectorsFile = "testdata/v1.json"

// vectors are examples of every format and proof for another implementation. Bytes
// are in hexadecimal, but for entries and heads, which are text.
type vectors struct {
	Authority     string          `json:"authority"`      // Ed25519 public key
	AuthoritySeed string          `json:"authority_seed"` // of its private key
	LogSeed       string          `json:"log_seed"`
	LogKey        string          `json:"log_key"`
	Credential    string          `json:"log_credential"`
	Task          string          `json:"task"`
	Entries       []string        `json:"entries"`
	Heads         []string        `json:"heads"` // over the first 1, 2, … entries
	Inclusion     [][]string      `json:"inclusion"`
	Consistency   [][]string      `json:"consistency"` // from 1, 2, … entries to all
	BadEntries    []badVector     `json:"bad_entries"`
	BadHeads      []badVector     `json:"bad_heads"`
	BadLogs       []badLogVector  `json:"bad_logs"`
	BadProofs     []badProofEntry `json:"bad_inclusions"`
}

type badVector struct {
	Why   string `json:"why"`
	Value string `json:"value"`
	Error string `json:"error"` // "malformed" or "forged"
}

// badLogVector is a log whose entries are those at the places of the good one.
type badLogVector struct {
	Why     string `json:"why"`
	Entries []int  `json:"entries"`
	Head    int    `json:"head"` // that many entries long
}

type badProofEntry struct {
	Why   string   `json:"why"`
	Entry int      `json:"entry"`
	Index uint64   `json:"index"`
	Proof []string `json:"proof"`
}

var errorNames = map[string]error{"malformed": ErrMalformed, "forged": ErrForged}

func hexes(list [][]byte) []string {
	out := []string{}
	for _, b := range list {
		out = append(out, hex.EncodeToString(b))
	}
	return out
}

// makeVectors builds the vectors from fixed keys.
func makeVectors(t *testing.T) *vectors {
	const n = 5
	r := newRig(n)
	v := &vectors{Authority: hex.EncodeToString(public(r.ca)), AuthoritySeed: hex.EncodeToString(r.ca.Seed()),
		LogSeed: hex.EncodeToString(r.key.Seed()), LogKey: hex.EncodeToString(public(r.key)),
		Credential: hex.EncodeToString(r.credential), Task: "desk"}
	for i, e := range r.entries {
		v.Entries = append(v.Entries, string(e))
		v.Heads = append(v.Heads, string(r.note(t, i+1)))
		inclusion, err := ProveInclusion(uint64(i), n, r.tree(n))
		if err != nil {
			t.Fatal(err)
		}
		consistency, err := ProveConsistency(uint64(i+1), n, r.tree(n))
		if err != nil {
			t.Fatal(err)
		}
		v.Inclusion, v.Consistency = append(v.Inclusion, hexes(inclusion)), append(v.Consistency, hexes(consistency))
	}
	entry, head := v.Entries[1], v.Heads[n-1]
	v.BadEntries = []badVector{
		{"a round with a leading zero", strings.Replace(entry, "round 1", "round 01", 1), "malformed"},
		{"a task in capitals", strings.Replace(entry, "task desk", "task Desk", 1), "malformed"},
		{"no line feed at the end", strings.TrimSuffix(entry, "\n"), "malformed"},
		{"another version", strings.Replace(entry, "/v1", "/v2", 1), "malformed"},
		{"a line too many", entry + "note\n", "malformed"},
	}
	v.BadHeads = []badVector{
		{"the size changed", strings.Replace(head, "\n5\n", "\n6\n", 1), "forged"},
		{"the log of another task", string(SignHead(r.key, Origin(public(r.ca), "shop"), r.headOf(t, n))), "malformed"},
		{"signed by another key", string(SignHead(testKey(3), r.origin(), r.headOf(t, n))), "malformed"},
		{"a second signature", head + head[strings.Index(head, "— "):], "malformed"},
		{"no signature", head[:strings.Index(head, "— ")], "malformed"},
	}
	v.BadLogs = []badLogVector{
		{"an entry removed", []int{0, 1, 3, 4}, 4}, {"two entries swapped", []int{0, 2, 1, 3, 4}, 5}, {"the newest entry hidden", []int{0, 1, 2, 3}, 5},
		{"the first entry removed", []int{1, 2, 3, 4}, 4}, {"the newest entry twice", []int{0, 1, 2, 3, 4, 4}, 5},
	}
	v.BadProofs = []badProofEntry{
		{"the proof of another entry", 1, 1, v.Inclusion[2]}, {"another index", 1, 0, v.Inclusion[1]}, {"an index behind the end", 1, n, v.Inclusion[1]},
		{"a hash too few", 1, 1, v.Inclusion[1][1:]}, {"a hash too many", 4, 4, append(slices.Clone(v.Inclusion[4]), v.Inclusion[0][0])},
	}
	return v
}

func TestVectorsAreCurrent(t *testing.T) {
	var made bytes.Buffer
	e := json.NewEncoder(&made)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorsFile, made.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(vectorsFile)
	if err != nil || !bytes.Equal(kept, made.Bytes()) {
		t.Errorf("%s differs from what this build makes, %v; a change needs another version of the format", vectorsFile, err)
	}
}

// unhex decodes, as another implementation's test would.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhexAll(t *testing.T, list []string) [][]byte {
	t.Helper()
	var out [][]byte
	for _, s := range list {
		out = append(out, unhex(t, s))
	}
	return out
}

// TestVectors judges the kept vectors by the public functions alone.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	ca, key, credential := unhex(t, v.Authority), unhex(t, v.LogKey), unhex(t, v.Credential)
	origin := Origin(ca, v.Task)
	var heads []Head
	for _, note := range v.Heads {
		h, err := VerifyHead(key, origin, []byte(note))
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, h)
	}
	newest := heads[len(heads)-1]
	for i, e := range v.Entries {
		if err := VerifyInclusion(newest, uint64(i), []byte(e), unhexAll(t, v.Inclusion[i])); err != nil {
			t.Error(err)
		}
		if err := VerifyConsistency(heads[i], newest, unhexAll(t, v.Consistency[i])); err != nil {
			t.Error(err)
		}
	}
	log := func(places ...int) (list [][]byte) {
		for _, i := range places {
			list = append(list, []byte(v.Entries[i]))
		}
		return list
	}
	if _, err := VerifyAll(ca, key, credential, v.Task, []byte(v.Heads[4]), log(0, 1, 2, 3, 4)); err != nil {
		t.Error(err)
	}
	for _, bad := range v.BadEntries {
		if _, err := DecodeEntry([]byte(bad.Value)); !errors.Is(err, errorNames[bad.Error]) {
			t.Errorf("an entry with %s: %v, want %s", bad.Why, err, bad.Error)
		}
	}
	for _, bad := range v.BadHeads {
		if _, err := VerifyHead(key, origin, []byte(bad.Value)); !errors.Is(err, errorNames[bad.Error]) {
			t.Errorf("a head with %s: %v, want %s", bad.Why, err, bad.Error)
		}
	}
	for _, bad := range v.BadLogs {
		if _, err := VerifyAll(ca, key, credential, v.Task, []byte(v.Heads[bad.Head-1]), log(bad.Entries...)); !errors.Is(err, ErrNotProven) {
			t.Errorf("a log with %s: %v", bad.Why, err)
		}
	}
	for _, bad := range v.BadProofs {
		if err := VerifyInclusion(newest, bad.Index, []byte(v.Entries[bad.Entry]), unhexAll(t, bad.Proof)); !errors.Is(err, ErrNotProven) {
			t.Errorf("an entry with %s: %v", bad.Why, err)
		}
	}
}
