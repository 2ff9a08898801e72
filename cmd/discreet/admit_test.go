package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// TestRevokedBetweenCertifiedAndAdmitted has one of three devices revoked after all were
// certified: the file lets in the other two, and its roll is kept.
func TestRevokedBetweenCertifiedAndAdmitted(t *testing.T) {
	f := &federation{bench: newBench(t), address: freeAddress(t)}
	f.env = append(f.env, "DISCREET_OPERATOR="+filepath.Join("coordinator", "operator.pem"))
	f.must("ca", "init", "ca")
	f.must("ca", "issue", "coordinator", "ca", "--out", "coordinator")
	if _, line := f.start(nil, "serve", "--dir", "coordinator", "--listen", f.address, "--http", ""); !strings.HasPrefix(line, "listening on ") {
		t.Fatalf("serve printed %q first; its log: %s", line, f.logged())
	}
	token := strings.TrimSpace(f.operate("token", "create", "--uses", "3"))
	var ids []string
	for i := range 3 {
		_, line := f.start(nil, "agent", "join", "--dir", kiosk(i), f.address, token)
		id, found := strings.CutPrefix(line, "device ")
		id, _, _ = strings.Cut(id, " ")
		if !found {
			t.Fatalf("agent join printed %q first; its log: %s", line, f.logged())
		}
		ids = append(ids, id)
	}
	f.write("waiting.txt", f.operate("device", "waiting"))
	f.must("ca", "issue", "devices", "ca", "--requests", "waiting.txt", "--out", "issued.txt")
	revokedAndAdmitted := func(id, want string) {
		t.Helper()
		f.must("ca", "revoke", "ca", id)
		f.copy(filepath.Join("ca", "revoked.bin"), filepath.Join("coordinator", "revoked.bin"))
		if got := f.operate("device", "admit", "issued.txt"); got != want {
			t.Errorf("device admit prints %q, want %q", got, want)
		}
	}
	revokedAndAdmitted(ids[1], "admitted 2 devices, 1 of the file was revoked\n")
	if !strings.Contains(f.logged(), "roll taken up") {
		t.Errorf("the coordinator has not kept the roll: %s", f.logged())
	}
	revokedAndAdmitted(ids[2], "admitted 0 devices, 2 of the file were revoked\n1 device of the file did not wait here, or no longer\n")
}

// admitting is a coordinator that admits all of a page but one, which is revoked, until its
// disk is full.
type admitting struct {
	rpc.OperatorServiceClient
	calls int // before that
}

func (a *admitting) Admit(_ context.Context, request *pb.AdmitRequest, _ ...grpc.CallOption) (*pb.AdmitResponse, error) {
	if a.calls--; a.calls < 0 {
		return nil, status.Error(codes.ResourceExhausted, "the disk is full")
	}
	if n := len(request.Issued); n > 0 {
		return &pb.AdmitResponse{Admitted: uint32(n - 1), Revoked: 1}, nil
	}
	return new(pb.AdmitResponse), nil
}

// TestAdmitSaysHowFarItCame: who reads an error knows how many are in all the same.
func TestAdmitSaysHowFarItCame(t *testing.T) {
	issued, roll := make([]ca.Issued, 2*admitPage+2), new(secagg.Roll)
	const full = "the coordinator answers ResourceExhausted: the disk is full"
	for calls, want := range []string{
		full,
		full + "; 199 devices of the file had been admitted before that: admit it again for the rest",
		full + "; 398 devices of the file had been admitted before that: admit it again for the rest",
		full + "; 399 devices of the file had been admitted before that: admit it again for the rest",
	} {
		_, _, err := admit(t.Context(), &admitting{calls: calls}, issued, roll)
		if err = plainError("", err); err == nil || err.Error() != want {
			t.Errorf("after %d calls: %v, want %q", calls, err, want)
		}
	}
	if admitted, revoked, err := admit(t.Context(), &admitting{calls: 4}, issued, roll); err != nil || admitted != 399 || revoked != 3 {
		t.Errorf("%d admitted, %d revoked, %v; want 399 and 3", admitted, revoked, err)
	}
}
