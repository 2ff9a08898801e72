package checkpointlog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestEntryHasOneEncoding(t *testing.T) {
	good := string(newRig(2).entries[1])
	longest := Entry{Task: strings.Repeat("z", MaxTaskBytes), Round: math.MaxUint64, Checkpoint: [32]byte{1}, Bytes: math.MaxUint64,
		Previous: [32]byte{2}, Survivors: math.MaxUint32, Committed: math.MaxInt64}
	for _, e := range []Entry{longest, {Task: "0", Checkpoint: [32]byte{31: 1}, Bytes: 1}} {
		if got, err := DecodeEntry(e.Encode()); err != nil || got != e {
			t.Errorf("%+v was read as %+v, %v", e, got, err)
		}
	}
	replace := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q has no %q", good, old)
		}
		return strings.Replace(good, old, new, 1)
	}
	upper := strings.ToUpper(good[strings.Index(good, "\ncheckpoint ")+12:][:64])
	for name, text := range map[string]string{
		"nothing":             "",
		"cut":                 good[:len(good)-1],
		"longer":              good + "\n",
		"another line":        good + "note x\n",
		"other version":       replace("checkpoint/v1", "checkpoint/v2"),
		"line end of Windows": strings.ReplaceAll(good, "\n", "\r\n"),
		"leading zero":        replace("round 1", "round 01"),
		"sign":                replace("round 1", "round +1"),
		"number too large":    replace("round 1", "round 18446744073709551616"),
		"survivors too large": replace("survivors 4", "survivors 4294967296"),
		"before 1970":         replace("committed 1", "committed -1"),
		"time too large":      replace("committed 1700000000001", "committed 9223372036854775808"),
		"upper case":          replace(strings.ToLower(upper), upper),
		"short hash":          replace("previous ", "previous 0")[:len(good)-1],
		"not hexadecimal":     replace(strings.ToLower(upper), strings.Repeat("g", 64)),
		"no size":             replace("bytes 1001", "bytes 0"),
		"no checkpoint":       replace(strings.ToLower(upper), strings.Repeat("0", 64)),
		"follows itself":      replace(good[strings.Index(good, "\nprevious ")+10:][:64], strings.ToLower(upper)),
		"no task":             replace("task desk", "task "),
		"task in capitals":    replace("task desk", "task Desk"),
		"task with a space":   replace("task desk", "task de sk"),
		"long task":           replace("task desk", "task "+strings.Repeat("a", MaxTaskBytes+1)),
		"very long":           replace("task desk", "task "+strings.Repeat("a", MaxEntryBytes)),
		"lines swapped":       replace("task desk\nround 1\n", "round 1\ntask desk\n"),
		"space at the end":    replace("task desk", "task desk "),
	} {
		if e, err := DecodeEntry([]byte(text)); !errors.Is(err, ErrMalformed) || e != (Entry{}) {
			t.Errorf("%s: %+v, %v; want ErrMalformed", name, e, err)
		}
	}
}

func TestHeadIsSignedForOneLog(t *testing.T) {
	r := newRig(5)
	good := string(r.note(t, 5))
	if h, err := VerifyHead(public(r.key), r.origin(), []byte(good)); err != nil || h != r.headOf(t, 5) {
		t.Fatalf("%v, %v", h, err)
	}
	signed := func(text string) string { // a text that the key did sign
		return string(appendSignature([]byte(text), r.origin(), public(r.key), ed25519.Sign(r.key, []byte(text))))
	}
	five := r.headOf(t, 5)
	root := base64.StdEncoding.EncodeToString(five.Root[:])
	other := SignHead(testKey(9), r.origin(), five)
	for _, tc := range []struct {
		name, note string
		want       error
	}{
		{"nothing", "", ErrMalformed},
		{"no signature", good[:strings.Index(good, "\n\n")+2], ErrMalformed},
		{"cut", good[:len(good)-1], ErrMalformed},
		{"longer", good + "\n", ErrMalformed},
		{"signature twice", good + good[strings.Index(good, "— "):], ErrMalformed},
		{"of another task", string(SignHead(r.key, Origin(public(r.ca), "desk2"), five)), ErrMalformed},
		{"of another authority", string(SignHead(r.key, Origin(public(testKey(3)), "desk"), five)), ErrMalformed},
		{"by another key", string(other), ErrMalformed}, // its hash is named in the signature
		{"by another key in the log's name", string(appendSignature(headText(r.origin(), five), r.origin(), public(r.key),
			ed25519.Sign(testKey(9), headText(r.origin(), five)))), ErrForged},
		{"size changed", strings.Replace(good, "\n5\n", "\n6\n", 1), ErrForged},
		{"root changed", strings.Replace(good, root, "A"+root[1:], 1), ErrForged},
		{"signed with a leading zero", signed(r.origin() + "\n05\n" + root + "\n"), ErrMalformed},
		{"signed with another line", signed(r.origin() + "\n5\n" + root + "\nmore\n"), ErrMalformed},
		{"signed without entries", signed(r.origin() + "\n0\n" + root + "\n"), ErrMalformed},
		{"signed over too many", signed(fmt.Sprintf("%s\n%d\n%s\n", r.origin(), MaxSize+1, root)), ErrMalformed},
		{"signed with a short root", signed(r.origin() + "\n5\nAAAA\n"), ErrMalformed},
		{"padding bits of the root", signed(r.origin() + "\n5\n" + root[:42] + string(root[42]+1) + "=\n"), ErrMalformed},
		{"padding bits of the signature", good[:len(good)-3] + string(good[len(good)-3]+1) + "=\n", ErrMalformed},
		{"very long", good + strings.Repeat("x", MaxHeadBytes), ErrMalformed},
	} {
		if h, err := VerifyHead(public(r.key), r.origin(), []byte(tc.note)); !errors.Is(err, tc.want) || h != (Head{}) {
			t.Errorf("%s: %v, %v; want %v", tc.name, h, err, tc.want)
		}
	}
	if _, err := VerifyHead(nil, r.origin(), []byte(good)); !errors.Is(err, ErrMalformed) {
		t.Errorf("no key: %v", err)
	}
}

// TestOthersReadHeads holds that a head is a note as golang.org/x/mod reads notes.
func TestOthersReadHeads(t *testing.T) {
	r := newRig(3)
	encoded, err := note.NewEd25519VerifierKey(r.origin(), public(r.key))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(encoded)
	if err != nil {
		t.Fatal(err)
	}
	read, err := note.Open(r.note(t, 3), note.VerifierList(verifier))
	if err != nil || len(read.Sigs) != 1 || read.Text != string(headText(r.origin(), r.headOf(t, 3))) {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestLogKeyIsCertified(t *testing.T) {
	r := newRig(0)
	if err := VerifyKey(public(r.ca), public(r.key), r.credential); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name       string
		ca, key    ed25519.PublicKey
		credential []byte
		want       error
	}{
		{"another authority", public(testKey(3)), public(r.key), r.credential, ErrForged},
		{"another key", public(r.ca), public(testKey(3)), r.credential, ErrForged},
		{"by itself", public(r.ca), public(r.key), CertifyKey(r.key, public(r.key)), ErrForged},
		{"for another purpose", public(r.ca), public(r.key), ed25519.Sign(r.ca, append([]byte("discreet/credential/v1"), public(r.key)...)), ErrForged},
		{"no credential", public(r.ca), public(r.key), nil, ErrMalformed},
		{"no key", public(r.ca), nil, r.credential, ErrMalformed},
		{"no authority", nil, public(r.key), r.credential, ErrMalformed},
	} {
		if err := VerifyKey(tc.ca, tc.key, tc.credential); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// TestProofs proves every entry in every log of up to 20, and every growth.
func TestProofs(t *testing.T) {
	const most = 20
	r := newRig(most + 1)
	whole := r.tree(most + 1) // a log that has grown meanwhile proves what it was
	for size := 1; size <= most; size++ {
		h := r.headOf(t, size)
		for i := range size {
			proof, err := ProveInclusion(uint64(i), uint64(size), whole)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(h, uint64(i), r.entries[i], proof); err != nil {
				t.Errorf("entry %d of %d: %v", i, size, err)
			}
			for name, err := range map[string]error{
				"another entry":  VerifyInclusion(h, uint64(i), r.entries[i+1], proof),
				"another index":  VerifyInclusion(h, uint64(i+1), r.entries[i], proof),
				"another head":   VerifyInclusion(r.headOf(t, size+1), uint64(i), r.entries[i], proof),
				"a hash more":    VerifyInclusion(h, uint64(i), r.entries[i], append(slices.Clone(proof), make([]byte, 32))),
				"a node as leaf": VerifyInclusion(h, uint64(i), append([]byte{1}, r.entries[i]...), proof),
			} {
				if !errors.Is(err, ErrNotProven) {
					t.Errorf("entry %d of %d, %s: %v", i, size, name, err)
				}
			}
		}
		for old := 0; old <= size; old++ {
			proof, err := ProveConsistency(uint64(old), uint64(size), whole)
			if err != nil {
				t.Fatal(err)
			}
			before := Head{}
			if old > 0 {
				before = r.headOf(t, old)
			}
			if err := VerifyConsistency(before, h, proof); err != nil {
				t.Errorf("from %d to %d: %v", old, size, err)
			}
			if before.Root[0] ^= 1; old > 0 && !errors.Is(VerifyConsistency(before, h, proof), ErrNotProven) {
				t.Errorf("from another log of %d to %d was proven", old, size)
			}
		}
	}
}

func TestProofsRefuseWhatIsNoGrowth(t *testing.T) {
	r := newRig(8)
	tree, h := r.tree(8), r.headOf(t, 8)
	proof, err := ProveConsistency(3, 8, tree)
	if err != nil {
		t.Fatal(err)
	}
	huge := Head{Size: math.MaxUint64}
	for _, tc := range []struct {
		name string
		err  error
		want error
		text string
	}{
		{"shrunk", VerifyConsistency(h, r.headOf(t, 3), nil), ErrNotProven, "shrank: it had 8 entries"},
		{"forked at the same size", VerifyConsistency(Head{8, [32]byte{1}}, h, nil), ErrNotProven, "forked"},
		{"proof from nothing", VerifyConsistency(Head{}, h, proof), ErrMalformed, "from nothing"},
		{"long proof", VerifyConsistency(r.headOf(t, 3), h, make([][]byte, MaxProof+1)), ErrMalformed, "65 hashes"},
		{"short hash", VerifyConsistency(r.headOf(t, 3), h, [][]byte{{1}}), ErrMalformed, "1 bytes"},
		{"huge head", VerifyConsistency(h, huge, nil), ErrNotProven, "entries"},
		{"entry of a huge head", VerifyInclusion(huge, 1, nil, nil), ErrNotProven, "entry 1"},
		{"short hash for an entry", VerifyInclusion(h, 0, r.entries[0], [][]byte{{1}}), ErrMalformed, "1 bytes"},
	} {
		if !errors.Is(tc.err, tc.want) || !strings.Contains(tc.err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v with %q", tc.name, tc.err, tc.want, tc.text)
		}
	}
	for name, f := range map[string]func() error{
		"entry behind the end": func() error { _, err := ProveInclusion(8, 8, tree); return err },
		"log too large":        func() error { _, err := ProveInclusion(8, math.MaxUint64, tree); return err },
		"shrinking":            func() error { _, err := ProveConsistency(9, 8, tree); return err },
		"hash not kept":        func() error { _, err := ProveConsistency(8, 16, tree); return err },
		"empty head":           func() error { _, err := HeadOf(0, tree); return err },
		"head behind the end":  func() error { _, err := HeadOf(16, tree); return err },
		"entry not valid":      func() error { _, err := Append([]byte("x"), 8, tree); return err },
		"log full":             func() error { _, err := Append(r.entries[0], MaxSize, tree); return err },
	} {
		if f() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAppendKeepsWhatTreesHave holds that hashes kept one append after another are
// those of the tree over all.
func TestAppendKeepsWhatTreesHave(t *testing.T) {
	r := newRig(17)
	kept := new(Tree)
	for i, entry := range r.entries {
		more, err := Append(entry, uint64(i), kept)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := int64(len(kept.hashes)), tlog.StoredHashCount(int64(i)); got != want {
			t.Fatalf("entry %d is kept at %d, want %d", i, got, want)
		}
		kept.hashes = append(kept.hashes, more...)
	}
	if !slices.Equal(kept.hashes, r.tree(17).hashes) {
		t.Error("other hashes than the tree's")
	}
}

func TestVerifyAll(t *testing.T) {
	r := newRig(7)
	h, err := VerifyAll(public(r.ca), public(r.key), r.credential, "desk", r.note(t, 7), r.entries)
	if err != nil || h != r.headOf(t, 7) {
		t.Fatalf("%v, %v", h, err)
	}
	// A log may begin with a round in which it was not kept yet.
	if _, err := VerifyAll(public(r.ca), public(r.key), r.credential, "desk", lone(t, r), [][]byte{entryOf("desk", 9, [32]byte{}).Encode()}); err != nil {
		t.Errorf("a log that begins with round 9: %v", err)
	}
	for _, tc := range []struct {
		name, want string
		change     func(f *File)
	}{
		{"entry changed", "one of them was changed", func(f *File) {
			f.Entries[3] = bytes.Replace(f.Entries[3], []byte("survivors 7"), []byte("survivors 8"), 1)
		}},
		{"checkpoint changed", "entry 4, of round 6: not what the log's head says: it follows checkpoint", func(f *File) {
			e := entryOf("desk", 4, entryOf("desk", 3, [32]byte{}).Checkpoint)
			e.Checkpoint[0] ^= 1
			f.Entries[3] = e.Encode()
		}},
		{"entry malformed", "entry 2: checkpointlog: malformed", func(f *File) { f.Entries[2] = append(f.Entries[2], '\n') }},
		{"entry removed", "entry 3, of round 6", func(f *File) { f.Entries = slices.Delete(f.Entries, 3, 4) }},
		{"first entry removed", "entry 0, of round 1: not what the log's head says: it follows checkpoint", func(f *File) { f.Entries = f.Entries[1:] }},
		{"last entry removed", "6 entries, the head is over 7", func(f *File) { f.Entries = f.Entries[:6] }},
		{"nothing left", "0 entries, the head is over 7", func(f *File) { f.Entries = nil }},
		{"entries swapped", "entry 2, of round 4", func(f *File) { f.Entries[2], f.Entries[3] = f.Entries[3], f.Entries[2] }},
		{"round repeated", "entry 7: not what the log's head says: round 9 stands after round 9", func(f *File) {
			e := entryOf("desk", 9, entryOf("desk", 9, [32]byte{}).Checkpoint)
			e.Checkpoint[0] ^= 1
			f.Entries = append(f.Entries, e.Encode())
		}},
		{"entry of another task", `entry 1, of round 1: not what the log's head says: it belongs to task "shop"`, func(f *File) {
			f.Entries[1] = entryOf("shop", 1, entryOf("desk", 0, [32]byte{}).Checkpoint).Encode()
		}},
		{"head of another task", "malformed: a head", func(f *File) { f.Head = SignHead(r.key, Origin(public(r.ca), "shop"), r.headOf(t, 7)) }},
		{"head of a shorter log", "7 entries, the head is over 6", func(f *File) { f.Head = r.note(t, 6) }},
		{"head forged", "forged: the head", func(f *File) {
			text := headText(r.origin(), r.headOf(t, 7))
			f.Head = appendSignature(text, r.origin(), f.LogKey, ed25519.Sign(testKey(5), text))
		}},
		{"head of a fork", "one of them was changed", func(f *File) { f.Head = SignHead(r.key, r.origin(), Head{7, [32]byte{1}}) }},
		{"key of somebody else", "forged: the authority", func(f *File) { f.LogKey = public(testKey(5)) }},
		{"credential of another authority", "forged: the authority", func(f *File) { f.Credential = CertifyKey(testKey(5), f.LogKey) }},
	} {
		f := r.file(t)
		f.Entries = slices.Clone(f.Entries)
		for i := range f.Entries {
			f.Entries[i] = bytes.Clone(f.Entries[i])
		}
		tc.change(f)
		if h, err := VerifyAll(public(r.ca), f.LogKey, f.Credential, "desk", f.Head, f.Entries); err == nil || h != (Head{}) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v; want an error with %q", tc.name, h, err, tc.want)
		}
	}
}

// lone is the signed head of a log whose one entry is of round 9.
func lone(t *testing.T, r *rig) []byte {
	tree := new(Tree)
	tree.Add(entryOf("desk", 9, [32]byte{}).Encode())
	h, err := HeadOf(1, tree)
	if err != nil {
		t.Fatal(err)
	}
	return SignHead(r.key, r.origin(), h)
}

func TestExportedLog(t *testing.T) {
	r := newRig(4)
	raw := r.file(t).Encode()
	f, err := DecodeFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyAll(public(r.ca), f.LogKey, f.Credential, "desk", f.Head, f.Entries); err != nil {
		t.Error(err)
	}
	good := string(raw)
	for _, tc := range []struct{ name, file, want string }{
		{"nothing", "", "a file that begins"},
		{"something else", "-----BEGIN CERTIFICATE-----\n", "a file that begins"},
		{"other version", strings.Replace(good, "file/v1", "file/v2", 1), "a file that begins"},
		{"survivors changed", strings.Replace(good, "survivors 4", "survivors 5", 1), "entry 1: malformed: its hash is"},
		{"cut in an entry", good[:len(good)-80], "entry 3: malformed: the file ends within it"},
		{"cut in the head", good[:300], "a file that begins"},
		{"entry without an empty line", strings.Replace(good, "\n\ndiscreet/checkpoint", "\n \ndiscreet/checkpoint", 1), "no empty line"},
		{"no key", strings.Replace(good, "log-key ", "key ", 1), `want "log-key"`},
		{"credential not base64", strings.Replace(good, "log-credential ", "log-credential !", 1), `want "log-credential"`},
		{"longer", good + "\n", "entry 4: malformed"},
		{"first empty line missing", strings.Replace(good, "\n\ndiscreet/log/v1", "\n \ndiscreet/log/v1", 1), "written in another way"},
	} {
		if _, err := DecodeFile([]byte(tc.file)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrMalformed with %q", tc.name, err, tc.want)
		}
	}
}
