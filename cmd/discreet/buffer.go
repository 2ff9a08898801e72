package main

import (
	"fmt"

	"github.com/spf13/pflag"

	pb "github.com/discreet-fl/discreet/proto"
)

// bufferSettings are the flags of a buffer.
type bufferSettings struct{ cohorts, staleness uint32 }

func (s *bufferSettings) flags(f *pflag.FlagSet) {
	f.Uint32Var(&s.cohorts, "buffer", 0, "cohorts work side by side, and the sums of so many make a checkpoint, 1 to 16; 0 makes one round after another")
	f.Uint32Var(&s.staleness, "staleness", 10, "with --buffer: checkpoints that a sum may come late, 0 to 100; a later one is thrown away")
}

// read is the buffer that the flags ask for, nil for none.
func (s *bufferSettings) read(given *pflag.FlagSet) (*pb.Buffer, error) {
	switch {
	case s.cohorts == 0 && given.Changed("staleness"):
		return nil, usagef("--staleness %d without --buffer: no sum comes late where one round runs after another; leave it out, or give --buffer", s.staleness)
	case s.cohorts == 0:
		return nil, nil
	case s.cohorts > 16:
		return nil, usagef("--buffer %d, want 0 to 16", s.cohorts)
	case s.staleness > 100:
		return nil, usagef("--staleness %d, want 0 to 100", s.staleness)
	}
	return &pb.Buffer{Cohorts: s.cohorts, Staleness: s.staleness}, nil
}

// bufferText is a buffer as a person reads it.
func bufferText(b *pb.Buffer) string {
	if b == nil {
		return "none"
	}
	return fmt.Sprintf("%d cohorts make a checkpoint, at most %d checkpoints late", b.Cohorts, b.Staleness)
}
