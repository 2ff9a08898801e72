package coordinator

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// verbatim is a codec that sends and returns bytes as they are.
type verbatim struct{}

func (verbatim) Name() string { return "proto" }

func (verbatim) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (verbatim) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// recorded are requests as a client of version 1.4 sends them, some with fields that
// this version does not know: 100 in the version or the step, 2047 in the message. What
// clients of versions 1.0 and 1.3 send is refused for its version.
var recorded = []struct {
	method string
	bytes  string     // in hexadecimal
	want   codes.Code // OK, or a refusal that shows that every known field was read
	text   string     // in the refusal or the reply
}{
	{rpc.RoundService_Tasks_FullMethodName, "0a020801", codes.FailedPrecondition, "works with 1.4 and later"},
	{rpc.RoundService_Tasks_FullMethodName, "0a0408011004", codes.OK, "desk"},
	{rpc.RoundService_Tasks_FullMethodName, "0a0708011004a00601" + "fa7f036e6577", codes.OK, "desk"},
	{rpc.RoundService_CheckIn_FullMethodName, "0a020801" + "12046465736b", codes.FailedPrecondition, "1.0"},
	{rpc.RoundService_CheckIn_FullMethodName, "0a0408011003" + "12046465736b" + "1a20" + strings.Repeat("07", 32), codes.FailedPrecondition, "1.3"},
	{rpc.RoundService_CheckIn_FullMethodName, "0a0708011004a00601" + "12046465736b" + "1a20" + strings.Repeat("07", 32) + "fa7f036e6577", codes.OK, "all 1 rounds are done"},
	{rpc.RoundService_CheckIn_FullMethodName, "0a0408011004" + "12046465736b", codes.InvalidArgument, "nonce of 0 bytes, want 32"},
	{rpc.RoundService_CheckIn_FullMethodName, "0a0408011004" + "12046465736b" + "1a1f" + strings.Repeat("07", 31), codes.InvalidArgument, "31 bytes"},
	{rpc.RoundService_CheckIn_FullMethodName, "0a0408011004" + "12046e6f6e65" + "1a20" + strings.Repeat("07", 32), codes.NotFound, `"none"`},
	{rpc.RoundService_CheckIn_FullMethodName, "0a04080210" + "05", codes.FailedPrecondition, "2.5"},
	{rpc.RoundService_Advertise_FullMethodName, "0a0d0a046465736b10031801a00601" + "12036b6579" + "fa7f036e6577", codes.FailedPrecondition, "round 3 attempt 1"},
	{rpc.RoundService_Share_FullMethodName, "0a0a0a046465736b10011801" + "120373656c" + "fa7f036e6577", codes.FailedPrecondition, "round 1 attempt 1"},
	{rpc.RoundService_Complain_FullMethodName, "0a0a0a046465736b10011802" + "120373656c" + "fa7f036e6577", codes.FailedPrecondition, "round 1 attempt 2"},
	{rpc.RoundService_Submit_FullMethodName, "0a0a0a046465736b10011802" + "120173" + "1801" + "2003" + "2a0164" + "fa7f036e6577", codes.FailedPrecondition, "round 1 attempt 2"},
	{rpc.RoundService_Confirm_FullMethodName, "0a0a0a046465736b10011802" + "120373656c" + "fa7f036e6577", codes.FailedPrecondition, "round 1 attempt 2"},
	// The receipt of the committed round: the old reveal's shares are not needed.
	{rpc.RoundService_Reveal_FullMethodName, "0a0d0a046465736b10011801a00601" + "1201ff" + "fa7f036e6577", codes.OK, ""},
	{rpc.RoundService_Reveal_FullMethodName, "0a0a0a046465736b10011802", codes.FailedPrecondition, "round 1 attempt 2"},
	{rpc.CheckpointService_GetCheckpoint_FullMethodName, "0a20" + strings.Repeat("07", 32) + "1005" + "fa7f036e6577", codes.NotFound, "070707"},
	{rpc.EnrolmentService_Enrol_FullMethodName, "0a0408011004" + "1210" + strings.Repeat("01", 16) + "1a20" + strings.Repeat("02", 32) + "2240" +
		strings.Repeat("03", 64) + "fa7f036e6577", codes.InvalidArgument, "the proof is not"},
}

// TestRecordedBytes replays what an older client sends through the real handlers.
func TestRecordedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(3, 3)
		s.Rounds = 1
		_, devices := fleet(t, 3, s, Options{})
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
		for i, r := range recorded {
			request, err := hex.DecodeString(r.bytes)
			if err != nil {
				t.Fatal(err)
			}
			var reply []byte
			err = devices[0].conn.Invoke(t.Context(), r.method, request, &reply, grpc.ForceCodec(verbatim{}))
			if status.Code(err) != r.want || !strings.Contains(fmt.Sprint(err, string(reply)), r.text) {
				t.Errorf("%d: %s answers %q, %v; want %v with %q", i, r.method, reply, err, r.want, r.text)
			}
		}
	})
}

// TestNewerDevicesFinishARound adds unknown fields to every message of a round, as a
// client of a newer minor version does.
func TestNewerDevicesFinishARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, devices := fleet(t, 3, spec(3, 3), Options{})
		for _, d := range devices {
			d.rounds = rpc.NewRoundServiceClient(newer{d.conn})
		}
		walks := gather(t, devices...)
		each(t, 3, func(i int) error { return walks[i].steps(t.Context(), all) })
	})
}

// newer is a connection whose messages hold fields of a later version, in every
// message and in those inside it.
type newer struct{ grpc.ClientConnInterface }

func (n newer) Invoke(ctx context.Context, method string, request, reply any, o ...grpc.CallOption) error {
	message := proto.Clone(request.(proto.Message))
	extend(message.ProtoReflect())
	return n.ClientConnInterface.Invoke(ctx, method, message, reply, o...)
}

func extend(m protoreflect.Message) {
	m.SetUnknown(protoreflect.RawFields{0xfa, 0x7f, 3, 'n', 'e', 'w'})
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() != nil && !f.IsList() {
			extend(v.Message())
		}
		return true
	})
}

// The plan's bytes are what everybody hashes: they may not depend on who encodes.
func TestPlanBytes(t *testing.T) {
	s := spec(20, 3)
	first, err := firstCheckpoint(s)
	if err != nil {
		t.Fatal(err)
	}
	from := Basis{Checkpoint: [32]byte{1, 2, 3}, Bytes: 99, Layout: first.Manifest.Layout, LogHead: []byte("head"), Revocations: []byte("sum")}
	plan, raw, err := NewPlan(s, 7, 2, from)
	if err != nil {
		t.Fatal(err)
	}
	read := new(pb.Plan)
	if err := proto.Unmarshal(raw, read); err != nil || !proto.Equal(read, plan) {
		t.Errorf("the bytes are not the plan's: %v", err)
	}
	if string(read.GetLogHead()) != "head" || string(read.GetRevocationsSha256()) != "sum" || read.GetCheckpointBytes() != 99 {
		t.Errorf("the plan %v does not say what it starts from", read)
	}
	if got, want := plan.GetSecureAggregation().GetLength(), uint32(len(first.Params)+1); got != want {
		t.Errorf("vectors of %d words, want %d", got, want)
	}
	if plan.GetAdvertiseMs() != 32_000 || plan.GetStepMs() != 8000 {
		t.Errorf("advertise takes %d ms and a step %d, want 32000 and 8000", plan.GetAdvertiseMs(), plan.GetStepMs())
	}
	if bits := int(plan.GetCodec().GetRingBits()); Codec(20, 20).Fits(20, bits) != nil || Codec(20, 20).Fits(20, bits-1) == nil {
		t.Errorf("a ring of %d bits for 20 devices", bits)
	}
}

// What a specification leaves open is filled in the plan; the ring is a cohort's.
func TestPlanHasTheDefaults(t *testing.T) {
	for _, tc := range []struct {
		spec *pb.TaskSpec
		want *pb.SecureAggregation
		fits int // devices
	}{
		{&pb.TaskSpec{PerRound: 20}, &pb.SecureAggregation{Cohort: 20, Corrupt: 1000, Dropout: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}, 20},
		{&pb.TaskSpec{PerRound: 20_000}, &pb.SecureAggregation{Cohort: 1000, Corrupt: 1000, Dropout: 1000, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID}, 1000},
		{&pb.TaskSpec{PerRound: 300, Cohort: 50, Corrupt: 3333, Dropout: 500, Keys: pb.KeyExchange_KEY_EXCHANGE_CLASSICAL},
			&pb.SecureAggregation{Cohort: 50, Corrupt: 3333, Dropout: 500, Keys: pb.KeyExchange_KEY_EXCHANGE_CLASSICAL}, 50},
	} {
		s := tc.spec
		s.Name, s.Intents, s.Model, s.MinSurvivors, s.DeadlineMs = "desk", []string{"a", "b"}, "small", 5, 1000
		if err := CheckSpec(s); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		first, err := firstCheckpoint(s)
		if err != nil {
			t.Fatal(err)
		}
		plan, raw, err := NewPlan(s, 1, 1, Basis{Layout: first.Manifest.Layout})
		if err != nil {
			t.Fatal(err)
		}
		tc.want.Length, tc.want.MinSurvivors = uint32(len(first.Params)+1), 5
		if !proto.Equal(plan.GetSecureAggregation(), tc.want) {
			t.Errorf("%v: got %v, want %v", s, plan.GetSecureAggregation(), tc.want)
		}
		codec := Codec(int(s.GetPerRound()), tc.fits)
		if bits := int(plan.GetCodec().GetRingBits()); codec.Fits(tc.fits, bits) != nil || codec.Fits(tc.fits, bits-1) == nil {
			t.Errorf("a ring of %d bits for %d devices", bits, tc.fits)
		}
		p := RoundConfig(plan, raw, nil, nil, 0).Params
		if hybrid := tc.want.GetKeys() == pb.KeyExchange_KEY_EXCHANGE_HYBRID; p.Keys == secagg.Hybrid != hybrid ||
			p.Corrupt != int(tc.want.GetCorrupt()) || p.Dropout != int(tc.want.GetDropout()) || p.Cohort != int(tc.want.GetCohort()) {
			t.Errorf("%v: the round has %+v", s, p)
		}
	}
}
