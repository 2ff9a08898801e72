package discreetv1_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/discreet-fl/discreet/proto"
)

// ahead is the minor version of the recording with fields from the future.
const ahead = 9

// A recording is a message as a peer of some minor version sent it.
type recording struct {
	name string // of the message, without its package
	wire []byte
	text string // what this version must read, in protobuf's text format
}

func recordings(t *testing.T, minor int) []recording {
	t.Helper()
	name := filepath.Join("testdata", fmt.Sprintf("minor-%d.txt", minor))
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var found []recording
	for _, paragraph := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if strings.HasPrefix(paragraph, "#") {
			continue
		}
		lines := strings.Split(paragraph, "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[1], "wire") || !strings.HasPrefix(lines[2], "text") {
			t.Fatalf("%s: got %q, want a message's name, a wire line and a text line", name, paragraph)
		}
		wire, err := hex.DecodeString(strings.TrimSpace(lines[1][len("wire"):]))
		if err != nil {
			t.Fatalf("%s: %s: %v", name, lines[0], err)
		}
		found = append(found, recording{lines[0], wire, lines[2][len("text"):]})
	}
	if len(found) == 0 {
		t.Fatalf("%s holds no message", name)
	}
	return found
}

// decode reads the recording as this version does, and the text beside it.
func (r recording) decode(t *testing.T, o proto.UnmarshalOptions) (got, want proto.Message) {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("discreet.v1." + r.name))
	if err != nil {
		t.Fatalf("this version has lost a message: %v", err)
	}
	got, want = kind.New().Interface(), kind.New().Interface()
	if err := o.Unmarshal(r.wire, got); err != nil {
		t.Fatalf("bytes of a peer of another minor version: %v", err)
	}
	if err := prototext.Unmarshal([]byte(r.text), want); err != nil {
		t.Fatal(err)
	}
	return got, want
}

// TestReplayOlder reads what peers of every minor version so far have sent.
func TestReplayOlder(t *testing.T) {
	recorded := map[protoreflect.Name]bool{}
	for minor := range pb.Minor + 1 {
		for _, r := range recordings(t, minor) {
			t.Run(fmt.Sprintf("1.%d/%s", minor, r.name), func(t *testing.T) {
				got, want := r.decode(t, proto.UnmarshalOptions{})
				if !proto.Equal(got, want) {
					t.Errorf("got %v\nwant %v", got, want)
				}
				checkVersion(t, got, uint32(minor))
			})
			recorded[protoreflect.Name(r.name)] = true
		}
	}
	for message := range messages() {
		if !recorded[message.Name()] {
			t.Errorf("no recording of %s; record one in testdata/minor-%d.txt", message.Name(), pb.Minor)
		}
	}
}

// TestReplayNewer reads messages with fields that this version does not know.
func TestReplayNewer(t *testing.T) {
	for _, r := range recordings(t, ahead) {
		t.Run(r.name, func(t *testing.T) {
			got, want := r.decode(t, proto.UnmarshalOptions{})
			if len(got.ProtoReflect().GetUnknown()) == 0 {
				t.Error("the recording holds no unknown field")
			}
			if proto.Equal(got, want) {
				t.Error("the unknown fields went unseen")
			}
			checkVersion(t, got, ahead)
			// Without them the message says what this version understands.
			got, want = r.decode(t, proto.UnmarshalOptions{DiscardUnknown: true})
			if !proto.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

// checkVersion holds that a message that names its sender's version can be
// worked with.
func checkVersion(t *testing.T, message proto.Message, minor uint32) {
	t.Helper()
	versioned, ok := message.(interface{ GetVersion() *pb.Version })
	if !ok {
		return
	}
	if got := versioned.GetVersion().GetMinor(); got != minor {
		t.Errorf("the sender's minor version is %d, want %d", got, minor)
	}
	if err := pb.Check(versioned.GetVersion(), 0); err != nil {
		t.Error(err)
	}
	if err := pb.Check(versioned.GetVersion(), minor+1); err == nil {
		t.Errorf("a coordinator whose oldest is 1.%d took 1.%d", minor+1, minor)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		peer   *pb.Version
		oldest uint32
		want   []string // in the error; nil: none
	}{
		{"same", pb.Current(), 0, nil},
		{"older minor", &pb.Version{Major: pb.Major, Minor: pb.Minor - 1}, pb.Minor - 1, nil},
		{"newer minor", &pb.Version{Major: pb.Major, Minor: pb.Minor + 1}, 0, nil},
		{"minor too old", &pb.Version{Major: pb.Major, Minor: 3}, 4, []string{"the peer speaks discreet protocol 1.3", "this side speaks 1.4", "works with 1.4 and later", "upgrade the peer"}},
		{"newer major", &pb.Version{Major: pb.Major + 1, Minor: 5}, 0, []string{"the peer speaks discreet protocol 2.5", "this side speaks 1.4", "upgrade this side"}},
		{"no version", nil, 0, []string{"named no version", "this side speaks discreet protocol 1.4", "upgrade the peer"}},
		{"major zero", &pb.Version{Minor: 7}, 0, []string{"named no version"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := pb.Check(test.peer, test.oldest)
			if test.want == nil && err != nil {
				t.Fatal(err)
			}
			for _, part := range test.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want an error with %q", err, part)
				}
			}
		})
	}
	if !proto.Equal(pb.Current(), &pb.Version{Major: pb.Major, Minor: pb.Minor}) {
		t.Errorf("Current() = %v, want %d.%d", pb.Current(), pb.Major, pb.Minor)
	}
}
