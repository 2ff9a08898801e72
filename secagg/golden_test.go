package secagg

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// transcriptFile writes an attempt down as lines of a name and a value.
type transcriptFile struct{ bytes.Buffer }

func (f *transcriptFile) hex(name string, value []byte) { fmt.Fprintf(f, "%s %x\n", name, value) }

func (f *transcriptFile) words(name string, value []uint32) {
	f.WriteString(name)
	for _, w := range value {
		fmt.Fprintf(f, " %08x", w)
	}
	f.WriteByte('\n')
}

// recorder notes the random bytes a device took, for others to take the same.
type recorder struct {
	from  io.Reader
	taken []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.taken = append(r.taken, p[:n]...)
	return n, err
}

func (r *recorder) take() []byte {
	b := r.taken
	r.taken = nil
	return b
}

// TestGolden replays whole attempts from fixed randomness. Every byte that is sent,
// and the bytes that lead to it, stand in testdata; docs/protocol.md says how to
// read the files. Rewrite them with: go test ./secagg -run TestGolden -update
func TestGolden(t *testing.T) {
	for _, test := range []struct {
		name          string
		n             int
		noShare, lost []int
	}{
		{"three", 3, nil, nil},
		{"five-one-lost", 5, nil, []int{3}},
		{"seven-mixed", 7, []int{6}, []int{2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := record(t, test.n, test.noShare, test.lost)
			file := filepath.Join("testdata", test.name+".txt")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			gotLines, wantLines := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
			for i := range min(len(gotLines), len(wantLines)) {
				if !bytes.Equal(gotLines[i], wantLines[i]) {
					t.Fatalf("%s:%d: got\n%s\nwant\n%s", file, i+1, gotLines[i], wantLines[i])
				}
			}
			if len(gotLines) != len(wantLines) {
				t.Fatalf("%s: %d lines, want %d", file, len(gotLines), len(wantLines))
			}
		})
	}
}

// record runs an attempt in which some vanish after Advertise and some after Share.
func record(t *testing.T, n int, noShare, lost []int) []byte {
	r := newRig(t, 600+uint64(n), n)
	for i, d := range r.devices {
		d.rand = &recorder{from: stream(600, "golden", i)}
	}
	taken := func(i int) []byte { return r.devices[i].rand.(*recorder).take() }
	f := &transcriptFile{}
	p := r.params
	fmt.Fprintf(f, "version %d\ntask %s\nround %d\nattempt %d\nlength %d\nring-bits %d\ncohort %d\nmin-survivors %d\n",
		formatVersion, p.Task, p.Round, p.Attempt, p.Length, p.RingBits, p.Cohort, p.MinSurvivors)
	f.hex("plan", p.Plan)
	f.hex("ca", p.CA)
	ctx0 := p.context()
	f.hex("ctx0", ctx0[:])
	r.must(r.advertise(r.all()))
	for i, d := range r.devices {
		fmt.Fprintf(f, "device %d %v\n", i, d.id)
		f.hex("  key", d.signer.Key.Seed())
		f.hex("  credential", d.signer.Credential)
		f.hex("  random", taken(i))
		f.hex("  advert", d.advert)
	}
	f.hex("roster", r.roster)
	f.hex("ctx1", r.shares.session.ctx1[:])
	sharers := without(r.all(), noShare...)
	r.must(r.share(sharers))
	for _, i := range sharers {
		fmt.Fprintf(f, "share %d\n", i)
		f.hex("  random", taken(i))
		f.hex("  shares", r.devices[i].shares)
		f.hex("  inbox", r.devices[i].inbox)
	}
	survivors := without(sharers, lost...)
	r.must(r.submit(survivors))
	for _, i := range survivors {
		fmt.Fprintf(f, "submit %d\n", i)
		f.words("  input", r.devices[i].input)
		f.words("  masked", r.devices[i].masked)
	}
	f.hex("survivors", r.survivors)
	r.must(r.finish(survivors))
	for _, i := range survivors {
		fmt.Fprintf(f, "reveal %d %x\n", i, r.devices[i].reveal)
	}
	f.words("sum", r.sum)
	if want := r.plain(survivors); !slices.Equal(r.sum, want) {
		t.Errorf("sum %v, want %v", r.sum, want)
	}
	return f.Bytes()
}

// TestTranscriptEncoding writes one hash input out by hand.
func TestTranscriptEncoding(t *testing.T) {
	got := transcript("ab", []byte{1, 2, 3}, nil, binary.BigEndian.AppendUint16(nil, 5))
	want := []byte{0, 0, 0, 2, 'a', 'b', 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 5}
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
