package checkpointlog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"testing"
)

// Every decoder, fed with real values and what the fuzzer makes of them, either
// refuses or gives something that encodes to the same bytes again: there is one
// encoding of everything.

// seed adds the value, one that is cut and one that is too long.
func seed(f *testing.F, value []byte) {
	f.Add(value)
	f.Add(value[:len(value)/2])
	f.Add(append(bytes.Clone(value), '\n'))
	f.Add([]byte{})
}

func FuzzEntry(f *testing.F) {
	for _, e := range newRig(3).entries {
		seed(f, e)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			return
		}
		if again := e.Encode(); !bytes.Equal(again, b) {
			t.Errorf("%q encodes again to %q", b, again)
		}
	})
}

// FuzzHead signs what the fuzzer makes of a head's text, so that it comes past the
// signature.
func FuzzHead(f *testing.F) {
	r := newRig(3)
	seed(f, headText(r.origin(), r.headOf(f, 3)))
	seed(f, r.note(f, 3))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, b := range [][]byte{text, appendSignature(text, r.origin(), public(r.key), ed25519.Sign(r.key, text))} {
			h, err := VerifyHead(public(r.key), r.origin(), b)
			if err != nil {
				continue
			}
			if again := SignHead(r.key, r.origin(), h); !bytes.Equal(again, b) {
				t.Errorf("%q is signed again as %q", b, again)
			}
		}
	})
}

func FuzzFile(f *testing.F) {
	seed(f, newRig(3).file(f).Encode())
	f.Add([]byte(labelFile + "\nlog-key " + base64.StdEncoding.EncodeToString([]byte("key")) + "\nlog-credential \n\n\n\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := DecodeFile(b)
		if err != nil {
			return
		}
		if again := file.Encode(); !bytes.Equal(again, b) {
			t.Errorf("%q encodes again to %q", b, again)
		}
	})
}

// FuzzProof holds that no proof proves an entry that is not in the log or a growth
// that was none, whatever the numbers are, and that none is a panic.
func FuzzProof(f *testing.F) {
	r := newRig(6)
	tree, h := r.tree(6), r.headOf(f, 6)
	inclusion, err := ProveInclusion(2, 6, tree)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(2), uint64(3), bytes.Join(inclusion, nil))
	f.Add(uint64(1)<<63, uint64(1)<<62, []byte{})
	f.Fuzz(func(t *testing.T, index, size uint64, hashes []byte) {
		var proof [][]byte
		for len(hashes) >= 32 {
			proof, hashes = append(proof, hashes[:32]), hashes[32:]
		}
		if VerifyInclusion(h, index, []byte("no entry"), proof) == nil {
			t.Errorf("entry %d was proven by %x", index, proof)
		}
		other := Head{Size: size, Root: [32]byte{1}}
		if size > 0 && VerifyConsistency(other, h, proof) == nil {
			t.Errorf("growth from a log of %d was proven by %x", size, proof)
		}
		if VerifyConsistency(h, other, proof) == nil {
			t.Errorf("growth to a log of %d was proven by %x", size, proof)
		}
	})
}
