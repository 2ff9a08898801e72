package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// GetRevocations has nothing to say; tests put a list into the reply.
func (d *daemon) GetRevocations(ctx context.Context, _ *pb.GetRevocationsRequest) (*pb.GetRevocationsResponse, error) {
	_, err := d.caller(ctx)
	return &pb.GetRevocationsResponse{}, err
}

// publish makes the daemon serve a list.
func (d *daemon) publish(list []byte) {
	d.set(func() {
		d.reply = func(_ string, reply any) {
			if r, ok := reply.(*pb.GetRevocationsResponse); ok {
				r.List = list
			}
		}
	})
}

func revokedList(t *testing.T, ca ed25519.PrivateKey, version uint64, ids ...secagg.ID) []byte {
	t.Helper()
	list, err := (&secagg.RevocationList{Version: version, Revoked: ids}).Sign(ca)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// naming is a plan that names a list.
func naming(list []byte) *pb.Plan {
	sum := sha256.Sum256(list)
	return &pb.Plan{RevocationsSha256: sum[:]}
}

// TestRevocationsOnlyGrow walks a device past a coordinator that hides, ages, swaps
// and forges the list, with its folder closed and opened between all of it.
func TestRevocationsOnlyGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		dir := t.TempDir()
		c := openClient(t, dir, d, Options{})
		if _, err := c.revocations(t.Context(), nil, naming(nil)); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("before it is enrolled: %v", err)
		}
		if err := c.Enrol(t.Context(), testHost+":7443", d.token()); err != nil {
			t.Fatal(err)
		}
		first := revokedList(t, d.rig.ca, 4, secagg.ID{1})
		second := revokedList(t, d.rig.ca, 7, secagg.ID{1}, secagg.ID{2})
		twin := revokedList(t, d.rig.ca, 7, secagg.ID{2})
		third := revokedList(t, d.rig.ca, 8, secagg.ID{1}, secagg.ID{2}, secagg.ID{3})
		fewer := revokedList(t, d.rig.ca, 9, secagg.ID{2}, secagg.ID{3}, secagg.ID{4}, secagg.ID{5})
		stranger := revokedList(t, newDaemon(t, 3).rig.ca, 99, secagg.ID{1})
		for _, step := range []struct {
			name      string
			published []byte
			plan      *pb.Plan
			asks      bool
			has       secagg.ID // somebody on the list that is returned, zero for nobody
			want      string    // of the error; empty for none
		}{
			{"nobody was ever revoked", nil, &pb.Plan{}, false, secagg.ID{}, ""},
			{"a list of another authority", stranger, naming(stranger), true, secagg.ID{}, "does not verify"},
			{"no list where one is named", nil, naming(first), true, secagg.ID{}, "malformed"},
			{"a short hash", first, &pb.Plan{RevocationsSha256: make([]byte, 31)}, false, secagg.ID{}, "31 bytes"},
			{"the first list", first, naming(first), true, secagg.ID{1}, ""},
			{"the first list again", nil, naming(first), false, secagg.ID{1}, ""},
			{"none after there was one", nil, &pb.Plan{}, false, secagg.ID{}, "names no list"},
			{"a newer one than the plan names", second, naming(third), true, secagg.ID{}, "the next plan should name that"},
			{"which is kept", nil, naming(second), false, secagg.ID{2}, ""},
			{"an older one", first, naming(first), true, secagg.ID{}, "has seen version 7"},
			{"an older plan with the list in force", second, naming(first), true, secagg.ID{}, "the next plan should name that"},
			{"another one of the same version", twin, naming(twin), true, secagg.ID{}, "as version 7"},
			{"one that was changed", slices.Concat(third[:len(third)-1], []byte{^third[len(third)-1]}), naming(third), true, secagg.ID{}, "does not verify"},
			{"the third list", third, naming(third), true, secagg.ID{3}, ""},
			{"a newer one that lets somebody in again", fewer, naming(fewer), true, secagg.ID{}, "first " + secagg.ID{1}.String()},
			{"which is not kept", nil, naming(third), false, secagg.ID{1}, ""},
		} {
			d.publish(step.published)
			before := len(d.when("GetRevocations"))
			l, err := c.connection()
			if err != nil {
				t.Fatal(err)
			}
			list, err := c.revocations(t.Context(), l, step.plan)
			if step.want == "" && err != nil || step.want != "" && (!errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), step.want)) {
				t.Errorf("%s: %v, want %q", step.name, err, step.want)
			}
			if err == nil && list.Has(step.has) != (step.has != secagg.ID{}) {
				t.Errorf("%s: the list is %v", step.name, list)
			}
			if asked := len(d.when("GetRevocations")) > before; asked != step.asks {
				t.Errorf("%s: asked is %v, want %v", step.name, asked, step.asks)
			}
			c.Close()
			c = openClient(t, dir, d, Options{})
		}
	})
}

// TestRevocationsFailures: what is no refusal of the plan says so, and a damaged record
// lets nothing older in.
func TestRevocationsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		c := d.device(t, Options{})
		l, err := c.connection()
		if err != nil {
			t.Fatal(err)
		}
		list := revokedList(t, d.rig.ca, 4, c.enrolled().device)
		d.publish(list)
		if _, err := c.revocations(t.Context(), l, naming(list)); !errors.Is(err, ErrPlanRefused) || !strings.Contains(err.Error(), "this device was revoked") {
			t.Errorf("its own revocation: %v", err)
		}
		d.set(func() { d.edit = func(string, any) error { return status.Error(codes.Unavailable, "restarting") } })
		if _, err := c.revocations(t.Context(), l, naming(append(bytes.Clone(list), 0))); errors.Is(err, ErrPlanRefused) || !passing(err) {
			t.Errorf("a coordinator that is away: %v", err)
		}
		if err := c.store.PutRecord(revocationsRecord, []byte("damaged")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.revocations(t.Context(), l, &pb.Plan{}); err == nil {
			t.Error("a plan without a list passed though the record cannot be read")
		}
	})
}
