package discreetv1_test

import (
	"bufio"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/discreet-fl/discreet/proto"
	_ "github.com/discreet-fl/discreet/proto/rpc" // registers the services
)

// messages goes through the messages of the contract.
func messages() iter.Seq[protoreflect.MessageDescriptor] {
	return func(yield func(protoreflect.MessageDescriptor) bool) {
		protoregistry.GlobalFiles.RangeFilesByPackage("discreet.v1", func(file protoreflect.FileDescriptor) bool {
			for i := range file.Messages().Len() {
				if !yield(file.Messages().Get(i)) {
					return false
				}
			}
			return true
		})
	}
}

// TestConfirmHasItsPlace holds the numbers of the steps, between which version 1.0
// kept one for the signed agreement on the survivors, and that the quorum's field in
// RevealRequest, which Confirm's answer made needless, is not given to anything else.
func TestConfirmHasItsPlace(t *testing.T) {
	reveal := (&pb.RevealRequest{}).ProtoReflect().Descriptor()
	if !reveal.ReservedRanges().Has(3) || !reveal.ReservedNames().Has("quorum") {
		t.Error("RevealRequest no longer reserves field 3, quorum")
	}
	if pb.Step_STEP_SUBMIT != 3 || pb.Step_STEP_CONFIRM != 4 || pb.Step_STEP_REVEAL != 5 {
		t.Errorf("Submit, Confirm and Reveal are steps %d, %d and %d, want 3, 4 and 5", pb.Step_STEP_SUBMIT, pb.Step_STEP_CONFIRM, pb.Step_STEP_REVEAL)
	}
}

// TestServicesStandApart holds that a build which only needs messages gets no
// service with them.
func TestServicesStandApart(t *testing.T) {
	services := 0
	for _, name := range []protoreflect.FullName{"discreet.v1", "discreet.rpc.v1"} {
		protoregistry.GlobalFiles.RangeFilesByPackage(name, func(file protoreflect.FileDescriptor) bool {
			services += file.Services().Len()
			switch {
			case name == "discreet.v1" && file.Services().Len() > 0:
				t.Errorf("%s has a service; services stand in discreet.rpc.v1", file.Path())
			case name == "discreet.rpc.v1" && (file.Services().Len() != 1 || file.Messages().Len() > 0):
				t.Errorf("%s has %d services and %d messages, want one service alone", file.Path(), file.Services().Len(), file.Messages().Len())
			}
			return true
		})
	}
	if services == 0 {
		t.Error("no service is registered")
	}
}

var (
	declaration = regexp.MustCompile(`^\s*(?:(message|enum|service|rpc) (\w+)|(?:repeated |optional )?([\w.]+) (\w+) = \d+;|([A-Z][A-Z0-9_]*) = \d+;)`)
	size        = regexp.MustCompile(`\d (bytes|[KM]iB)\b`)
)

// undocumented returns what a .proto source declares without a comment of its
// own, and the bytes fields whose comment gives no size.
func undocumented(source string) []string {
	var found []string
	comment := ""
	lines := bufio.NewScanner(strings.NewReader(source))
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "//"); ok {
			comment += text
			continue
		}
		if m := declaration.FindStringSubmatch(line); m != nil {
			name := m[2] + m[4] + m[5]
			if comment == "" {
				found = append(found, name+" has no comment")
			} else if m[3] == "bytes" && !size.MatchString(comment) {
				found = append(found, name+" is bytes, and its comment gives no size")
			}
		}
		comment = ""
	}
	return found
}

// TestEverythingIsDocumented holds that every message, field, enum, value,
// service and call says what it is, and every bytes field how long it may be.
func TestEverythingIsDocumented(t *testing.T) {
	files := 0
	err := filepath.WalkDir("discreet", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		for _, complaint := range undocumented(string(source)) {
			t.Errorf("%s: %s", name, complaint)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no .proto file was found")
	}
}

func TestUndocumented(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"documented", "// A is.\nmessage A {\n  // Its key, 32 bytes.\n  bytes key = 1;\n  // Up to 1 MiB.\n  repeated bytes part = 2;\n}\n", ""},
		{"message", "message A {}\n", "A has no comment"},
		{"comment apart", "// About the file.\n\nmessage A {}\n", "A has no comment"},
		{"field", "// A is.\nmessage A {\n  // One.\n  uint32 one = 1;\n  discreet.v1.B two = 2;\n}\n", "two has no comment"},
		{"rpc", "  rpc Do(A) returns (B);\n", "Do has no comment"},
		{"value", "  STEP_ONE = 1;\n", "STEP_ONE has no comment"},
		{"no size", "  // Some bytes.\n  bytes key = 1;\n", "key is bytes, and its comment gives no size"},
		{"no declaration", "syntax = \"proto3\";\nimport \"a.proto\";\n  reserved 3;\n}\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(undocumented(test.source), "; "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
