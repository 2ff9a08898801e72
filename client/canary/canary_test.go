package canary

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "github.com/discreet-fl/discreet/proto"
)

const word = "QwjXkzvPlmrTghnB"

// TestPlanted plants the word in every form at many places among random bytes, and
// in every field of every request that could hold it. A search that missed one
// would let a leak pass.
func TestPlanted(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	for name, form := range map[string]func(before string) string{
		"raw":       func(string) string { return word },
		"lower":     func(string) string { return strings.ToLower(word) },
		"upper":     func(string) string { return strings.ToUpper(word) },
		"hex":       func(string) string { return hex.EncodeToString([]byte(word)) },
		"upper hex": func(string) string { return strings.ToUpper(hex.EncodeToString([]byte(strings.ToLower(word)))) },
		"base64":    func(before string) string { return base64.StdEncoding.EncodeToString([]byte(before + word + "tail")) },
		"base64url": func(before string) string {
			return base64.RawURLEncoding.EncodeToString([]byte(before + strings.ToUpper(word)))
		},
	} {
		for n := range 40 {
			planted := noise(n) + form(noise(n)) + noise(n)
			if Traces([]byte(planted), word) == nil {
				t.Errorf("%s after %d bytes was not found (seed %d)", name, n, seed)
			}
		}
	}
	for range 100 {
		if found := Traces([]byte(noise(10_000)), word); found != nil {
			t.Errorf("found %v in noise (seed %d)", found, seed)
		}
	}
}

func TestLog(t *testing.T) {
	step := &pb.RoundStep{Task: "shop", Round: 1, Attempt: 1}
	for name, m := range map[string]proto.Message{
		"task":           &pb.CheckInRequest{Task: word},
		"nested":         &pb.ShareRequest{Step: &pb.RoundStep{Task: word}},
		"advert":         &pb.AdvertiseRequest{Step: step, Advert: []byte("xx" + word)},
		"shares":         &pb.ShareRequest{Step: step, Shares: []byte(hex.EncodeToString([]byte(word)))},
		"data":           &pb.SubmitRequest{Step: step, Data: []byte(strings.ToLower(word))},
		"reveal":         &pb.RevealRequest{Step: step, Reveal: []byte(base64.StdEncoding.EncodeToString([]byte("a" + word)))},
		"enrolment":      &pb.EnrolRequest{PublicKey: []byte(word)},
		"unknown fields": withUnknown(&pb.TasksRequest{}),
	} {
		var l Log
		if err := l.Add(m); err != nil {
			t.Fatal(err)
		}
		if l.Leaks("abcdefghijklmnop", word) == nil {
			t.Errorf("%s: a planted word was not found", name)
		}
		if leaks := l.Leaks("abcdefghijklmnop"); leaks != nil {
			t.Errorf("%s: found %v", name, leaks)
		}
	}
	var l Log
	if err := l.add("CheckIn", &pb.CheckInRequest{}, metadata.Pairs("x-note", word)); err != nil {
		t.Fatal(err)
	}
	if l.Leaks(word) == nil {
		t.Error("a word planted in metadata was not found")
	}
}

func TestShape(t *testing.T) {
	step := &pb.RoundStep{Task: "shop", Round: 1, Attempt: 1}
	base := &pb.SubmitRequest{Step: step, Sha256: make([]byte, 32), Index: 1, Chunks: 3, Data: []byte("masked")}
	same := proto.CloneOf(base)
	same.Data = []byte("others")
	same.Sha256[0] = 9
	if Shape(base) != Shape(same) {
		t.Errorf("%s\n%s: other masked words changed the shape", Shape(base), Shape(same))
	}
	for name, edit := range map[string]func(*pb.SubmitRequest){
		"length":  func(m *pb.SubmitRequest) { m.Data = append(m.Data, 0) },
		"clear":   func(m *pb.SubmitRequest) { m.Index = 2 },
		"nested":  func(m *pb.SubmitRequest) { m.Step.Round = 2 },
		"task":    func(m *pb.SubmitRequest) { m.Step.Task = "shoq" },
		"missing": func(m *pb.SubmitRequest) { m.Sha256 = nil },
		"unknown": func(m *pb.SubmitRequest) { withUnknown(m) },
	} {
		changed := proto.CloneOf(base)
		edit(changed)
		if Shape(base) == Shape(changed) {
			t.Errorf("%s: the shape did not change", name)
		}
	}
}

// withUnknown adds a field that this version does not know, holding the word.
func withUnknown(m proto.Message) proto.Message {
	b := append([]byte{0xfa, 0x3f, byte(len(word))}, word...) // field 1023, bytes
	m.ProtoReflect().SetUnknown(b)
	return m
}
