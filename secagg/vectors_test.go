package secagg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the vectors in testdata/v4")

// vectorHead begins every file of vectors.
type vectorHead struct {
	Version int    `json:"version"`
	Comment string `json:"comment"`
	Source  string `json:"source"`
}

func newVectorHead(comment string) vectorHead {
	return vectorHead{formatVersion, comment, "go test ./secagg -run Vectors -update"}
}

// hexed is bytes that stand in a file in hexadecimal.
type hexed []byte

func (h hexed) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexed) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// holdVectors compares what was computed with a file, which it rewrites under -update.
func holdVectors(t *testing.T, name string, v any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "v4", name)
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d: got\n%.200s\nwant\n%.200s", file, i+1, gotLines[i], wantLines[i])
		}
	}
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%s: %d lines, want %d", file, len(gotLines), len(wantLines))
	}
}

// hexWords are words of eight hexadecimal digits.
func hexWords(words []uint32) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = fmt.Sprintf("%08x", w)
	}
	return strings.Join(list, " ")
}

// attemptVectors is a whole attempt. Messages are in hexadecimal, or where a member's
// are not given in full "sha256:" and the hash.
type attemptVectors struct {
	vectorHead
	Params    paramsVectors     `json:"params"`
	CASeed    hexed             `json:"ca_seed"`
	Rolls     []rollVector      `json:"rolls,omitempty"`
	Context   hexed             `json:"ctx0"`
	CheckIns  []*checkInVectors `json:"check_ins"`
	Root      hexed             `json:"committed_root"`
	Committed hexed             `json:"committed_hash"`
	Opened    hexed             `json:"opened_root,omitempty"`
	Cohorts   []*cohortVectors  `json:"cohorts"`
	Total     string            `json:"total"`
}

type paramsVectors struct {
	Task         string `json:"task"`
	Round        uint64 `json:"round"`
	Attempt      uint32 `json:"attempt"`
	Plan         hexed  `json:"plan"`
	CA           hexed  `json:"ca"`
	Length       int    `json:"length"`
	RingBits     int    `json:"ring_bits"`
	Cohort       int    `json:"cohort"`
	Corrupt      int    `json:"corrupt"`
	Dropout      int    `json:"dropout"`
	Keys         string `json:"keys"`
	MinSurvivors int    `json:"min_survivors"`
	Levels       []int  `json:"levels,omitempty"`
}

// checkInVectors is a device up to its advert. Random bytes are those that it took in
// that step, in the order docs/protocol.md has them in.
type checkInVectors struct {
	Place        int    `json:"place"`
	ID           hexed  `json:"id"`
	KeySeed      hexed  `json:"key_seed"`
	Credential   string `json:"credential"`
	Nonce        hexed  `json:"nonce"`
	Commitment   hexed  `json:"commitment"`
	Answer       string `json:"committed"`
	Cohort       int    `json:"cohort"`
	LostBefore   step   `json:"lost_before,omitempty"`
	AdvertRandom hexed  `json:"advert_random,omitempty"`
	Sigma        hexed  `json:"sigma,omitempty"`
	Advert       string `json:"advert,omitempty"`
}

type cohortVectors struct {
	Cohort     int              `json:"cohort"`
	RosterRoot hexed            `json:"roster_root"`
	GraphSeed  hexed            `json:"graph_seed"`
	Context    hexed            `json:"ctx1"`
	Complete   bool             `json:"complete_graph"`
	K          int              `json:"k"`
	T          int              `json:"t"`
	Quorum     int              `json:"quorum"`
	Needed     int              `json:"needed"`
	Members    []*memberVectors `json:"members"`
	Sharers    hexed            `json:"sharers"`
	Survivors  hexed            `json:"survivors"`
	Hash       hexed            `json:"survivors_hash"`
	Message    hexed            `json:"quorum_message"`
	Masks      int              `json:"masks_removed"`
	Level      int              `json:"level_reached,omitempty"`
	Seeds      []string         `json:"level_seeds,omitempty"`
	Sum        string           `json:"sum"`
}

// memberVectors is a device from its roster on; what it never sent or got is left out.
type memberVectors struct {
	Place       int    `json:"place"`
	CheckIn     int    `json:"check_in"`
	Note        string `json:"note,omitempty"`
	Roster      string `json:"roster,omitempty"`
	ShareRandom string `json:"share_random,omitempty"`
	SelfSeed    hexed  `json:"self_mask_key,omitempty"`
	LevelSeeds  string `json:"level_seeds,omitempty"`
	Shares      string `json:"shares,omitempty"`
	Inbox       string `json:"inbox,omitempty"`
	PairSeeds   string `json:"pair_mask_keys,omitempty"`
	Complaint   string `json:"complaint,omitempty"`
	Input       string `json:"input,omitempty"`
	Packed      hexed  `json:"masked_packed,omitempty"`
	Survivors   string `json:"survivors,omitempty"`
	Confirm     string `json:"confirm,omitempty"`
	Reveal      string `json:"reveal,omitempty"`
}

// scenarios are the attempts of which there are vectors, and which the bad messages
// refer to.
var scenarios = []scenario{
	{
		name: "attempt-hybrid-3", comment: "three members, hybrid keys, nobody lost",
		devices: 3, keys: Hybrid, cohort: 3, corrupt: 1000, dropout: 1000, rolls: [][]int{{0, 1, 2}},
	},
	{
		name: "attempt-classical-5", comment: "five members, classical keys, no roll, nobody lost",
		devices: 5, keys: Classical, cohort: 8, corrupt: 2000, dropout: 1000,
	},
	{
		name: "attempt-classical-13-losses", comment: "fourteen devices on the complete graph; one is lost before each step, and check-in 0 deals shares to check-in 7 that do not open; the members at places 0, 3 and 6 are given in full. The authority has two rolls: of seven of the devices with three others, and of five with one",
		devices: 14, rolls: rollsOf14, keys: Classical, cohort: 20, corrupt: 1000, dropout: 1000,
		gone: lossesOf14, dealer: 0, cheated: 7, full: []int{0, 3, 6},
	},
	{
		name: "attempt-hybrid-13-losses", comment: "as attempt-classical-13-losses, with hybrid keys and one roll of all devices; only the members at places 0 and 6 are given in full",
		devices: 14, rolls: [][]int{upTo(14)}, keys: Hybrid, cohort: 20, corrupt: 1000, dropout: 1000,
		gone: lossesOf14, dealer: 0, cheated: 7, full: []int{0, 6},
	},
	{
		name: "attempt-classical-101-sparse", comment: "a hundred and one members on a sparse graph, with losses; only the members at places 0, 1 and 2 are given in full",
		devices: 102, rolls: [][]int{upTo(102)}, keys: Classical, cohort: 102, corrupt: 100, dropout: 100,
		gone: map[int]step{50: stepAdvert, 20: stepShares, 80: stepVector, 33: stepConfirm, 90: stepReveal}, full: []int{0, 1, 2},
	},
	{
		name: "attempt-classical-two-cohorts", comment: "nine devices in two cohorts by lot, one of which does not advertise",
		devices: 9, rolls: [][]int{upTo(9)}, keys: Classical, cohort: 5, corrupt: 1000, dropout: 1000, gone: map[int]step{4: stepAdvert},
	},
	{
		name: "attempt-classical-8-levels", comment: "eight members with seeds of three levels, of which seven survivors give two back; one is lost before its vector and one before it reveals; the members at places 0, 1 and 7 are given in full",
		devices: 8, rolls: [][]int{upTo(8)}, keys: Classical, cohort: 8, corrupt: 1000, dropout: 1000, levels: []int{5, 7, 8},
		gone: map[int]step{3: stepVector, 5: stepReveal}, full: []int{0, 1, 7},
	},
}

// rollsOf14 leave two devices to their credentials.
var rollsOf14 = [][]int{{0, 1, 2, 3, 4, 5, 6, 14, 15, 16}, {8, 9, 10, 11, 12, 17}}

func upTo(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

// lossesOf14 lets the accused keep as many holders of its shares as there have to be.
var lossesOf14 = map[int]step{5: stepAdvert, 2: stepShares, 9: stepVector, 11: stepConfirm, 7: stepReveal}

// TestVectors computes every attempt anew and compares it with its file, byte for byte.
func TestVectors(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			v := newVectorRun(t, s, 1)
			v.run()
			holdVectors(t, s.name+".json", v.out)
		})
	}
}

// blob is a message as it stands in a file.
func (v *vectorRun) blob(place int, b []byte) string {
	if b == nil {
		return ""
	}
	if v.full != nil && !slices.Contains(v.full, place) {
		return fmt.Sprintf("sha256:%x", sha256.Sum256(b))
	}
	return hex.EncodeToString(b)
}
