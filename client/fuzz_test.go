package client

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/discreet-fl/discreet/model"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// FuzzPlan holds that whatever a coordinator sends as a plan is refused or within
// the bounds that the rest of the code relies on.
func FuzzPlan(f *testing.F) {
	layout, err := model.NewLayout("small", len(rigLabels))
	if err != nil {
		f.Fatal(err)
	}
	c, err := model.NewCheckpoint("shop", "small", 0, rigLabels, layout.Init(1))
	if err != nil {
		f.Fatal(err)
	}
	good, err := proto.Marshal(testPlan(c, c.Encode(), 20))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 3, 3, 1000, false)
	f.Add(good[:len(good)/2], 3, 3, 1000, false)
	f.Add([]byte{}, 0, 0, 0, true)
	f.Add([]byte("\x0a\x04shop\x10\x01\x18\x01"), 3, 20, 1, true)
	f.Fuzz(func(t *testing.T, b []byte, minCohort, minSurvivors, minCorrupt int, allowClassical bool) {
		own, err := Bounds{MinCohort: minCohort, MinSurvivors: minSurvivors, MinCorrupt: minCorrupt, AllowClassical: allowClassical}.filled()
		if err != nil {
			return
		}
		plan, err := readPlan(b, own)
		if err != nil {
			return
		}
		s := plan.SecureAggregation
		if int(s.MinSurvivors) < own.MinSurvivors || int(s.Cohort) < own.MinCohort || s.Cohort < s.MinSurvivors || s.Cohort > secagg.MaxCohort ||
			int(s.Corrupt) < own.MinCorrupt || s.Corrupt > mostTolerated || s.Dropout > mostTolerated ||
			!allowClassical && s.Keys != pb.KeyExchange_KEY_EXCHANGE_HYBRID {
			t.Errorf("accepted %v, the device's own bounds are %+v", s, own)
		}
		if err := training(plan).Validate(); err != nil {
			t.Error(err)
		}
		if err := codec(plan).Fits(int(s.Cohort), int(plan.Codec.RingBits)); err != nil {
			t.Error(err)
		}
		if len(plan.CheckpointSha256) != 32 || int64(plan.CheckpointBytes) > MaxCheckpointBytes || plan.Round == 0 || plan.Attempt == 0 {
			t.Errorf("accepted %v", plan)
		}
	})
}

// FuzzToken holds that a token that is accepted is the only spelling of its bytes.
func FuzzToken(f *testing.F) {
	f.Add(tokenPrefix + strings.Repeat("A", 64))
	f.Add(tokenPrefix + strings.Repeat("A", 63) + "=")
	f.Add(tokenPrefix + strings.Repeat("A", 30) + "\n" + strings.Repeat("A", 34))
	f.Add("discreet2." + strings.Repeat("A", 64))
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		got, err := parseToken(line)
		if err != nil {
			return
		}
		again := tokenPrefix + base64.RawURLEncoding.EncodeToString(append(got.fingerprint[:], got.secret[:]...))
		if again != strings.TrimSpace(line) {
			t.Errorf("%q was read as %q", line, again)
		}
	})
}
