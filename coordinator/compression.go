package coordinator

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
)

// Bounds of a task's compression.
const (
	mostRatio = 64
	leastBits = 4
	fullBits  = 16
)

// ladder is what --compression can be told by size alone: about so many times fewer
// bytes than none, by the combination that loses least.
var ladder = map[string]*pb.Compression{
	"2x":  {Method: pb.Compression_METHOD_UNSPECIFIED, Bits: 5},
	"4x":  {Method: pb.Compression_METHOD_PART, Ratio: 3, Bits: 8},
	"8x":  {Method: pb.Compression_METHOD_SKETCH, Ratio: 6, Bits: 8},
	"16x": {Method: pb.Compression_METHOD_SKETCH, Ratio: 13, Bits: 7},
}

// ParseCompression reads what an operator asks for: none, which is nil; 2x, 4x, 8x or
// 16x; or its terms, with a comma between them: part:N or sketch:N, to send one row of
// the embedding in place of N, and bits:N, to send N bits of a coordinate.
func ParseCompression(text string) (*pb.Compression, error) {
	if text == "none" {
		return nil, nil
	}
	if c, ok := ladder[text]; ok {
		return c, nil
	}
	c := new(pb.Compression)
	for term := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(term, ":")
		n, err := strconv.ParseUint(number, 10, 32)
		switch {
		case err == nil && name == "bits" && c.Bits == 0 && n > 0:
			c.Bits = uint32(n)
		case err == nil && (name == "part" || name == "sketch") && c.Method == pb.Compression_METHOD_UNSPECIFIED:
			c.Method, c.Ratio = pb.Compression_METHOD_PART, uint32(n)
			if name == "sketch" {
				c.Method = pb.Compression_METHOD_SKETCH
			}
		default:
			return nil, fmt.Errorf("--compression %q, want none, 2x, 4x, 8x, 16x, or part:N or sketch:N, bits:N, or one of the two and bits:N with a comma between them", text)
		}
	}
	if err := checkCompression(c); err != nil {
		return nil, fmt.Errorf("--compression %q: %w", text, err)
	}
	return c, nil
}

// CompressionText is a compression in the terms that ParseCompression reads.
func CompressionText(c *pb.Compression) string {
	var terms []string
	switch c.GetMethod() {
	case pb.Compression_METHOD_PART:
		terms = append(terms, fmt.Sprintf("part:%d", c.GetRatio()))
	case pb.Compression_METHOD_SKETCH:
		terms = append(terms, fmt.Sprintf("sketch:%d", c.GetRatio()))
	}
	if c.GetBits() != 0 {
		terms = append(terms, fmt.Sprintf("bits:%d", c.GetBits()))
	}
	if len(terms) == 0 {
		return "none"
	}
	return strings.Join(terms, ",")
}

// checkCompression returns an error unless a task can be asked for it.
func checkCompression(c *pb.Compression) error {
	switch method := c.GetMethod(); {
	case c == nil:
		return nil
	case method == pb.Compression_METHOD_UNSPECIFIED && c.GetRatio() != 0:
		return fmt.Errorf("a compression to one row in %d, but neither part nor sketch", c.GetRatio())
	case method == pb.Compression_METHOD_UNSPECIFIED && c.GetBits() == 0:
		return fmt.Errorf("a compression that names nothing, want none at all, or part, sketch or bits")
	case method != pb.Compression_METHOD_UNSPECIFIED && method != pb.Compression_METHOD_PART && method != pb.Compression_METHOD_SKETCH:
		return fmt.Errorf("compression method %d is not known, want part or sketch", method)
	case method != pb.Compression_METHOD_UNSPECIFIED && (c.GetRatio() < 2 || c.GetRatio() > mostRatio):
		return fmt.Errorf("a compression to one row in %d, want 2 to %d", c.GetRatio(), mostRatio)
	case c.GetBits() != 0 && (c.GetBits() < leastBits || c.GetBits() >= fullBits):
		return fmt.Errorf("a compression to %d bits a coordinate, want %d to %d; leave the bits out for %d, or the fewer that a large cohort needs", c.GetBits(), leastBits, fullBits-1, fullBits)
	}
	return nil
}

// codecOf is the codec of a task's plans for a round of so many devices. Of fewer bits each is worth more where the
// clip is nearer to what coordinates move in a round. A strategy's scalar has 16 bits, so
// that coordinates of fewer would make no ring narrower.
func codecOf(spec *pb.TaskSpec, devices int) aggregation.Codec {
	c := Codec(devices, int(cohortOf(spec)))
	if n := spec.GetCompression().GetBits(); n != 0 {
		c.Bits, c.Clip = int(n), fewBitsClip
	}
	_, fair := ChoiceOf(spec).FairOf(0)
	if fair {
		c.MaxWeight = aggregation.FairWeight
	}
	if _, normalised := ChoiceOf(spec).NormalisedOf(1, 1); fair || normalised {
		c.Bits = fullBits
	}
	return c
}

// fewBitsClip is the clip of a compression to so many bits a coordinate.
const fewBitsClip = 0.25

// reductionOf is how the devices of a task or a plan shorten their updates, but for the
// seed, on which no length depends.
func reductionOf(c *pb.Compression, l model.Layout) aggregation.Reduction {
	return aggregation.NewReduction(l.Rows, l.Dim, int(c.GetRatio()), c.GetMethod() == pb.Compression_METHOD_SKETCH)
}
