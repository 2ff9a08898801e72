package coordinator

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

func TestCompressionIsReadAsWritten(t *testing.T) {
	for text, want := range map[string]*pb.Compression{
		"none":             nil,
		"part:6":           {Method: pb.Compression_METHOD_PART, Ratio: 6},
		"sketch:8,bits:10": {Method: pb.Compression_METHOD_SKETCH, Ratio: 8, Bits: 10},
		"bits:4,part:64":   {Method: pb.Compression_METHOD_PART, Ratio: 64, Bits: 4},
		"bits:15":          {Bits: 15},
		"8x":               ladder["8x"],
	} {
		got, err := ParseCompression(text)
		if err != nil || (got == nil) != (want == nil) || !proto.Equal(got, want) {
			t.Errorf("%q is read as %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseCompression(CompressionText(got)); err != nil || !proto.Equal(again, got) {
			t.Errorf("%q is written as %q", text, CompressionText(got))
		}
	}
	for text, want := range map[string]string{
		"":                "want none, 2x",
		"3x":              "want none, 2x",
		"part":            "want none, 2x",
		"part:2,sketch:2": "want none, 2x",
		"bits:8,bits:8":   "want none, 2x",
		"part:4,":         "want none, 2x",
		"bits:-1":         "want none, 2x",
		"part:1":          "one row in 1, want 2 to 64",
		"sketch:65":       "one row in 65, want 2 to 64",
		"bits:3":          "3 bits a coordinate, want 4 to 15",
		"bits:16":         "16 bits a coordinate, want 4 to 15",
	} {
		if _, err := ParseCompression(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want an error with %q", text, err, want)
		}
	}
}

func TestTaskRefusesCompressionOutOfBounds(t *testing.T) {
	for _, c := range []*pb.Compression{
		{},
		{Ratio: 4},
		{Method: 9, Ratio: 4},
		{Method: pb.Compression_METHOD_PART},
		{Method: pb.Compression_METHOD_SKETCH, Ratio: 65},
		{Bits: 16},
	} {
		if err := checkCompression(c); err == nil {
			t.Errorf("%v is let through", c)
		}
	}
}

// TestLadderHoldsItsPromise compares a device's vector in a round of 20 of the base model
// with 150 intents to one without compression.
func TestLadderHoldsItsPromise(t *testing.T) {
	layout, err := model.NewLayout("base", 150)
	if err != nil {
		t.Fatal(err)
	}
	size := func(c *pb.Compression) float64 {
		spec := &pb.TaskSpec{PerRound: 20, Compression: c}
		vector := specLayout(spec, layout)
		if err := vector.Fits(20, vector.RingBits(20)); err != nil {
			t.Error(err)
		}
		return float64(vector.Length() * vector.RingBits(20))
	}
	for name, times := range map[string]float64{"2x": 2, "4x": 4, "8x": 8, "16x": 16} {
		if got := size(nil) / size(ladder[name]); got < times {
			t.Errorf("%s is %.2f times fewer bytes", name, got)
		} else if err := checkCompression(ladder[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s is %.2f times fewer bytes", name, got)
		}
	}
}
