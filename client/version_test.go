package client

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/discreet-fl/discreet/proto"
)

// namesVersions fails the test unless a text names both versions and what to do.
func namesVersions(t *testing.T, where, text string) {
	t.Helper()
	for _, want := range []string{"the peer speaks discreet protocol 1.3", "this side speaks 1.4 and works with 1.4", "upgrade the peer"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: got %q, want it to say %q", where, text, want)
		}
	}
}

// older has the daemon answer one method as a coordinator of version 1.3 does.
func (d *daemon) older(method string) {
	d.set(func() {
		d.calls, d.reply = nil, func(called string, reply any) {
			version := &pb.Version{Major: 1, Minor: 3}
			switch r := reply.(type) {
			case *pb.TasksResponse:
				if called == method {
					r.Version = version
				}
			case *pb.CheckInResponse:
				if called == method {
					r.Version = version
				}
			}
		}
	})
}

// called is the methods that were called, in order.
func (d *daemon) called() (calls []string) {
	d.set(func() { calls = slices.Clone(d.calls) })
	return calls
}

// TestOlderCoordinatorIsRefused has an enrolled device find a coordinator that speaks an older
// version: it says so, sends nothing that belongs to a round, and goes on trying, until the
// coordinator was upgraded.
func TestOlderCoordinatorIsRefused(t *testing.T) {
	for method, wantCalls := range map[string][]string{
		"Tasks":   {"Tasks"},
		"CheckIn": {"Tasks", "GetLogProof", "GetCheckpoint", "CheckIn"},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon(t, 3)
				d.set(func() { d.cohort = 1 })
				device := d.device(t, Options{})
				d.older(method)
				_, err := device.Participate(t.Context())
				if err == nil {
					t.Fatal("it took part")
				}
				namesVersions(t, "the error", err.Error())
				if calls := slices.Compact(d.called()); !slices.Equal(calls, wantCalls) {
					t.Errorf("it called %v, want %v", calls, wantCalls)
				}

				ended := make(chan error, 1)
				go func() { ended <- device.Run(t.Context()) }()
				<-time.After(time.Hour)
				s, err := device.Status()
				if err != nil {
					t.Fatal(err)
				}
				namesVersions(t, "the status", s.LastError)
				before := len(d.called())
				<-time.After(mostWait + time.Second)
				if calls := d.called(); slices.Contains(calls, "Advertise") || len(calls) == before {
					t.Errorf("it called %v, %d of them within an hour, want it to go on trying", calls, before)
				}
				d.set(func() { d.reply = nil })
				<-time.After(mostWait + time.Minute)
				if calls := d.called(); !slices.Contains(calls, "Advertise") {
					t.Errorf("it called %v, and took part in no round of the upgraded coordinator", calls)
				}
				device.Close()
				<-ended
			})
		})
	}
}

// TestOlderCoordinatorIsNotMovedTo: a device that joins its coordinator at another address stays
// where it was if an older one answers there.
func TestOlderCoordinatorIsNotMovedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t, 3)
		device := d.device(t, Options{})
		d.older("Tasks")
		err := device.Enrol(t.Context(), testHost+":7444", d.token())
		if err == nil {
			t.Fatal("it moved")
		}
		namesVersions(t, "the error", err.Error())
		if known := device.enrolled(); known == nil || known.Address != testHost+":7443" || slices.Contains(d.called(), "Enrol") {
			t.Errorf("it is enrolled at %+v, and called %v", known, d.called())
		}
	})
}
