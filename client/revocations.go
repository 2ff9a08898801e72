package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
)

// revocationsRecord holds the signed list of the highest version that this device has
// seen, as its bytes.
const revocationsRecord = "revocations"

// revocations returns the authority's list of devices that are members no more, as a
// plan names it by its SHA-256; nil where there never was one. A list that this device
// does not have is fetched. The newest one that it has seen is on disk before it is
// used, and no plan with an older one is joined, or with none after there was one: a
// coordinator cannot hide that somebody was put out. Errors: [ErrPlanRefused], and those
// of the connection.
func (c *Client) revocations(ctx context.Context, t Transport, plan *pb.Plan) (*secagg.RevocationList, error) {
	e := c.enrolled()
	if e == nil {
		return nil, ErrNotEnrolled
	}
	seen, newest, err := c.seenRevocations(e.caKey)
	if err != nil {
		return nil, err
	}
	named := plan.GetRevocationsSha256()
	switch sum := sha256.Sum256(seen); {
	case len(named) == 0 && newest == nil:
		return nil, nil
	case len(named) == 0:
		return nil, fmt.Errorf("%w: it names no list of revoked devices, this device has seen version %d; the coordinator has to be given the newest one again",
			ErrPlanRefused, newest.Version)
	case len(named) != len(sum):
		return nil, fmt.Errorf("%w: its hash of the list of revoked devices has %d bytes, want %d", ErrPlanRefused, len(named), len(sum))
	case newest == nil || !bytes.Equal(named, sum[:]):
		if newest, err = c.fetchRevocations(ctx, t, e.caKey, named, seen, newest); err != nil {
			return nil, err
		}
	}
	if newest.Has(e.device) {
		return nil, fmt.Errorf("%w: this device was revoked by the federation's operator", ErrPlanRefused)
	}
	return newest, nil
}

// seenRevocations returns the newest list that this device has seen, nil before the first.
func (c *Client) seenRevocations(ca ed25519.PublicKey) ([]byte, *secagg.RevocationList, error) {
	raw, err := c.store.Record(revocationsRecord)
	if err != nil || raw == nil {
		return nil, nil, err
	}
	list, err := secagg.VerifyRevocations(ca, raw)
	if err != nil { // without knowing what was seen, nothing older could be refused
		return nil, nil, fmt.Errorf("record %q cannot be read; this device has to enrol anew, in a new folder: %w", revocationsRecord, err)
	}
	return raw, list, nil
}

// fetchRevocations gets the coordinator's list, keeps it when it is the newest, and
// returns it if it is the one that the plan names.
func (c *Client) fetchRevocations(ctx context.Context, t Transport, ca ed25519.PublicKey, named, seen []byte, newest *secagg.RevocationList) (*secagg.RevocationList, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reply, err := t.GetRevocations(ctx, &pb.GetRevocationsRequest{})
	if err != nil {
		return nil, fmt.Errorf("asking for the list of revoked devices: %w", err)
	}
	raw := reply.GetList()
	list, err := secagg.VerifyRevocations(ca, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: the list of revoked devices: %w", ErrPlanRefused, err)
	}
	if newest != nil && list.Version < newest.Version {
		return nil, fmt.Errorf("%w: the coordinator has version %d of the list of revoked devices, this device has seen version %d; the coordinator has to be given the newest one",
			ErrPlanRefused, list.Version, newest.Version)
	}
	if newest != nil && list.Version == newest.Version && !bytes.Equal(raw, seen) {
		return nil, fmt.Errorf("%w: two lists of revoked devices are signed by the authority as version %d; ask its operator which one holds",
			ErrPlanRefused, list.Version)
	}
	if missing := list.Missing(newest); len(missing) > 0 { // such as after an old back-up of the authority was restored
		return nil, fmt.Errorf("%w: version %d of the list of revoked devices lets in again %d that version %d has put out for good, the first %v; the authority has to revoke them again",
			ErrPlanRefused, list.Version, len(missing), newest.Version, missing[0])
	}
	if newest == nil || list.Version > newest.Version {
		if err := c.store.PutRecord(revocationsRecord, raw); err != nil {
			return nil, fmt.Errorf("keeping the list of revoked devices: %w", err)
		}
		c.log.Info("list of revoked devices taken up", "version", list.Version, "devices", len(list.Revoked))
	}
	if got := sha256.Sum256(raw); !bytes.Equal(got[:], named) { // also when it became newer since the plan was made
		return nil, fmt.Errorf("%w: it names the list of revoked devices with the SHA-256 %x…, the coordinator has version %d, %x…; the next plan should name that",
			ErrPlanRefused, named[:4], list.Version, got[:4])
	}
	return list, nil
}
