package privacy

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"testing"
)

func TestVectors(t *testing.T) {
	vectors, err := Vectors()
	if err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 34 {
		t.Errorf("%d values recomputed, want 34", len(vectors))
	}
	for _, v := range vectors {
		if v.Source == "same" {
			t.Errorf("%s: the source is %q, want that of the value before", v.Name, v.Source)
		}
		if !v.OK() {
			t.Errorf("%s: got %.12g, want %.12g ± %.2g (%s)", v.Name, v.Got, v.Want, v.Tolerance, v.Source)
		}
	}
}

// TestVectorsCopy holds that the copy in this room is the collection that it was taken
// from, where that is at hand.
func TestVectorsCopy(t *testing.T) {
	name := filepath.Join(cmp.Or(os.Getenv("DISCREET_VECTORS"), "../../shared/vectors"), "accountant.json")
	original, err := os.ReadFile(name)
	if err != nil {
		t.Skipf("left out: no collection of values (%v); DISCREET_VECTORS names the folder that holds it", err)
	}
	copied, err := os.ReadFile("testdata/accountant.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(original, copied) {
		t.Errorf("testdata/accountant.json is not %s", name)
	}
}

// TestMissedVector is a value that is not met: neither by a little too much nor where
// nothing was computed.
func TestMissedVector(t *testing.T) {
	var r recomputation
	r.add("few digits", "", 13.3763, "13.376")
	r.add("too far for them", "", 13.3766, "13.376")
	r.add("many digits", "", 10.8602036, "10.86020365")
	r.add("too far for a millionth", "", 10.86023, "10.8602036")
	r.exactly("a whole number", "", 5, 4)
	want := []bool{true, false, true, false, false}
	for i, v := range r.vectors {
		if v.OK() != want[i] {
			t.Errorf("%s: OK is %v, want %v", v.Name, v.OK(), want[i])
		}
	}
	if r.err != nil {
		t.Error(r.err)
	}
	if r.add("nothing", "", 0, ""); r.err == nil {
		t.Error("a value that was not published passes")
	}
}
