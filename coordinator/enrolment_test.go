package coordinator

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/coordinator/ca"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
	"github.com/discreet-fl/discreet/secagg"
)

// apart makes a CA and the folder of a coordinator that does not have its key.
func apart(t testing.TB) (machine *ca.Machine, caDir, dir string) {
	t.Helper()
	caDir, dir = filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "coordinator")
	machine, err := ca.Init(caDir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.IssueCoordinator(nil, dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	return machine, caDir, dir
}

// issue certifies keys on the CA's machine.
func issue(t testing.TB, machine *ca.Machine, keys ...ed25519.PublicKey) []*pb.Issued {
	t.Helper()
	issued, _ := certified(t, machine, keys)
	var list []*pb.Issued
	for _, i := range issued {
		list = append(list, &pb.Issued{PublicKey: i.PublicKey, Certificate: i.Certificate, Credential: i.Credential})
	}
	return list
}

// certified is what the CA's machine makes for keys.
func certified(t testing.TB, machine *ca.Machine, keys []ed25519.PublicKey) ([]ca.Issued, *secagg.Roll) {
	t.Helper()
	var requests, out bytes.Buffer
	if err := ca.WriteRequests(&requests, keys); err != nil {
		t.Fatal(err)
	}
	if _, err := machine.IssueDevices(&requests, &out, time.Now()); err != nil {
		t.Fatal(err)
	}
	issued, roll, err := ca.ReadIssued(&out)
	if err != nil {
		t.Fatal(err)
	}
	return issued, roll
}

// revoke puts devices out on the CA's machine and copies the list to a coordinator.
func revoke(t testing.TB, machine *ca.Machine, caDir, dir string, ids ...secagg.ID) []byte {
	t.Helper()
	if _, err := machine.Revoke(ids, time.Now()); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(caDir, "revoked.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "revoked.bin"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestDevicesWaitForACAElsewhere walks two devices from their token to their first
// call by way of the CA's machine, with the coordinator started anew in between.
func TestDevicesWaitForACAElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, _, dir := apart(t)
		w := newWorld(t, dir, Options{})
		line, err := w.CreateToken(t.Context(), 2, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		keys := []ed25519.PrivateKey{newKey(t), newKey(t), newKey(t)}
		enrol := func(i int) (*pb.EnrolResponse, error) {
			return rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, keys[i]))
		}
		for range 3 { // asking again uses up no second place
			for i := range 2 {
				reply, err := enrol(i)
				if err != nil || reply.GetRetryAfterMs() == 0 || len(reply.GetCertificate())+len(reply.GetCredential()) > 0 {
					t.Fatalf("device %d: %v, %v; want to wait", i, reply, err)
				}
				if err := checkpointlog.VerifyKey(w.authority.PublicKey(), reply.GetLogKey(), reply.GetLogCredential()); err != nil {
					t.Error(err)
				}
				<-time.After(time.Second)
			}
		}
		_, err = enrol(2)
		wants(t, "a third device", err, codes.PermissionDenied, "used up")
		w.shut()
		w = newWorld(t, dir, Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		waiting, err := op.ListWaiting(t.Context(), &pb.ListWaitingRequest{})
		if err != nil || len(waiting.GetPublicKeys()) != 2 {
			t.Fatalf("%v, %v; want two devices that wait", waiting, err)
		}
		first := keys[0].Public().(ed25519.PublicKey)
		if !bytes.Equal(waiting.GetPublicKeys()[0], first) {
			t.Error("the one that has waited longest is not the first")
		}
		both := issue(t, machine, waiting.GetPublicKeys()[0], waiting.GetPublicKeys()[1])
		if n, err := w.store.CountDevices(t.Context()); err != nil || n != 0 {
			t.Errorf("%d devices are enrolled, %v; want none before they are admitted", n, err)
		}
		for _, want := range []uint32{2, 0} {
			if reply, err := op.Admit(t.Context(), &pb.AdmitRequest{Issued: both}); err != nil || reply.GetAdmitted() != want {
				t.Errorf("admitted %v, %v; want %d", reply, err, want)
			}
		}
		if waiting, err := op.ListWaiting(t.Context(), &pb.ListWaitingRequest{}); err != nil || len(waiting.GetPublicKeys()) != 0 {
			t.Errorf("%v, %v; want nobody to wait", waiting, err)
		}
		reply, err := enrol(0)
		if err != nil || reply.GetRetryAfterMs() != 0 || !bytes.Equal(reply.GetCertificate(), both[0].Certificate) {
			t.Fatalf("%v, %v; want the certificate", reply, err)
		}
		if err := secagg.VerifyCredential(w.authority.PublicKey(), first, reply.GetCredential()); err != nil {
			t.Error(err)
		}
		config := w.trust()
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{reply.GetCertificate()}, PrivateKey: keys[0]}}
		if _, err := rpc.NewRoundServiceClient(w.dial(t, config)).Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()}); err != nil {
			t.Error(err)
		}
	})
}

// TestAdmittedDeviceIsOfItsTokensTask: a device that waited for a CA elsewhere is bound to
// the task of the token that it came with, also where the coordinator was started anew.
func TestAdmittedDeviceIsOfItsTokensTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, _, dir := apart(t)
		w := newWorld(t, dir, Options{})
		other := spec(3, 3)
		other.Name = "other"
		w.create(t, spec(3, 3))
		w.create(t, other)
		bound, err := w.CreateTaskToken(t.Context(), "other", 1, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		free, err := w.CreateToken(t.Context(), 1, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]ed25519.PrivateKey{bound: newKey(t), free: newKey(t)}
		enrol := func(line string) *pb.EnrolResponse {
			t.Helper()
			reply, err := rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, keys[line]))
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		for line := range keys {
			if enrol(line).GetRetryAfterMs() == 0 {
				t.Error("a device was let in without its CA")
			}
		}
		w.shut()
		w = newWorld(t, dir, Options{})
		issued := issue(t, machine, keys[bound].Public().(ed25519.PublicKey), keys[free].Public().(ed25519.PublicKey))
		if reply, err := rpc.NewOperatorServiceClient(w.operator(t)).Admit(t.Context(), &pb.AdmitRequest{Issued: issued}); err != nil || reply.GetAdmitted() != 2 {
			t.Fatalf("admitted %v, %v; want both", reply, err)
		}
		for line, want := range map[string]int{bound: 1, free: 2} {
			config := w.trust()
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{enrol(line).GetCertificate()}, PrivateKey: keys[line]}}
			rounds := rpc.NewRoundServiceClient(w.dial(t, config))
			reply, err := rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()})
			if err != nil || len(reply.GetTasks()) != want || want == 1 && reply.GetTasks()[0].GetTask() != "other" {
				t.Errorf("it sees %v, %v; want %d tasks", reply, err, want)
			}
			d := &device{t: t, id: secagg.DeviceID(keys[line].Public().(ed25519.PublicKey))}
			if want == 1 {
				_, err = rounds.CheckIn(t.Context(), d.anywhere("desk"))
				wants(t, "checking in to another's task", err, codes.NotFound)
			}
		}
	})
}

// TestAdmitRefuses: what the CA did not sign for exactly this device is not stored, nor
// anything beside it.
func TestAdmitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, caDir, dir := apart(t)
		stranger, _, _ := apart(t)
		w := newWorld(t, dir, Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		line, err := w.CreateToken(t.Context(), 9, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		good, other := newKey(t), newKey(t)
		for _, key := range []ed25519.PrivateKey{good, other} {
			if _, err := rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, key)); err != nil {
				t.Fatal(err)
			}
		}
		public := func(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }
		right := issue(t, machine, public(good), public(other))
		foreign := issue(t, stranger, public(other))[0]
		for name, one := range map[string]*pb.Issued{
			"another CA's":            foreign,
			"another CA's credential": {PublicKey: public(other), Certificate: right[1].Certificate, Credential: foreign.Credential},
			"another device's":        {PublicKey: public(other), Certificate: right[0].Certificate, Credential: right[1].Credential},
			"nothing":                 {},
		} {
			_, err := op.Admit(t.Context(), &pb.AdmitRequest{Issued: []*pb.Issued{right[0], one}})
			wants(t, name, err, codes.InvalidArgument)
		}
		_, err = op.Admit(t.Context(), &pb.AdmitRequest{Issued: make([]*pb.Issued, mostAdmitted+1)})
		wants(t, "too many", err, codes.InvalidArgument, "at most 1000")
		revoke(t, machine, caDir, dir, secagg.DeviceID(public(other)))
		waiting, err := op.ListWaiting(t.Context(), &pb.ListWaitingRequest{})
		if err != nil || len(waiting.GetPublicKeys()) != 1 || !bytes.Equal(waiting.GetPublicKeys()[0], public(good)) {
			t.Errorf("%d devices wait, %v; want the one that was not revoked", len(waiting.GetPublicKeys()), err)
		}
		if n, err := w.store.CountDevices(t.Context()); err != nil || n != 0 {
			t.Errorf("%d devices were let in, %v", n, err)
		}
	})
}

// TestAdmitPassesOverTheRevoked: a device that is revoked after it was certified keeps out
// neither the others of its file nor their roll, in which it is.
func TestAdmitPassesOverTheRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, caDir, dir := apart(t)
		w := newWorld(t, dir, Options{})
		op := rpc.NewOperatorServiceClient(w.operator(t))
		line, err := w.CreateToken(t.Context(), 9, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var private []ed25519.PrivateKey
		var keys []ed25519.PublicKey
		enrol := func(i int) (*pb.EnrolResponse, error) {
			return rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, private[i]))
		}
		for i := range 3 {
			private = append(private, newKey(t))
			keys = append(keys, private[i].Public().(ed25519.PublicKey))
			if _, err := enrol(i); err != nil {
				t.Fatal(err)
			}
		}
		issued, roll := issue(t, machine, keys...), issueRoll(t, machine, keys...)
		revoke(t, machine, caDir, dir, secagg.DeviceID(keys[1]))
		for _, want := range []uint32{2, 0} {
			reply, err := op.Admit(t.Context(), &pb.AdmitRequest{Issued: issued, Roll: roll})
			if err != nil || reply.GetAdmitted() != want || reply.GetRevoked() != 1 {
				t.Fatalf("%v, %v; want %d admitted and 1 revoked", reply, err, want)
			}
		}
		if n, err := w.store.CountDevices(t.Context()); err != nil || n != 2 || len(w.rolls.list) != 1 {
			t.Errorf("%d devices and %d rolls, %v; want 2 and 1", n, len(w.rolls.list), err)
		}
		for _, i := range []int{0, 2} {
			if reply, err := enrol(i); err != nil || len(reply.GetCertificate()) == 0 {
				t.Errorf("device %d: %v, %v; want its certificate", i, reply, err)
			}
		}
		_, err = enrol(1)
		wants(t, "the revoked one", err, codes.PermissionDenied, "was revoked")
	})
}

// TestRevokedDeviceIsRefused: with the key in the coordinator's own folder, as for a
// beginner, and on a connection that was open before.
func TestRevokedDeviceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), Options{})
		out, in := w.join(t), w.join(t)
		ask := func(d *device) error {
			_, err := d.rounds.Tasks(t.Context(), &pb.TasksRequest{Version: pb.Current()})
			return err
		}
		if reply, err := in.rounds.GetRevocations(t.Context(), &pb.GetRevocationsRequest{}); err != nil || len(reply.GetList()) != 0 {
			t.Errorf("%v, %v; want no list", reply, err)
		}
		if err := ask(out); err != nil {
			t.Fatal(err)
		}
		machine, err := ca.OpenMachine(w.dir, w.Coordinator.log, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		list := revoke(t, machine, w.dir, w.dir, out.id)
		wants(t, "the open connection", ask(out), codes.PermissionDenied, out.id.String(), "was revoked")
		out.leave()
		out.connect(w)
		wants(t, "a new connection", ask(out), codes.PermissionDenied, "was revoked")
		line, err := w.CreateToken(t.Context(), 1, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, err = rpc.NewEnrolmentServiceClient(w.dial(t, w.trust())).Enrol(t.Context(), enrolment(t, line, out.signer.Key))
		wants(t, "enrolling again", err, codes.PermissionDenied, "was revoked")
		if err := ask(in); err != nil {
			t.Errorf("another device: %v", err)
		}
		if reply, err := in.rounds.GetRevocations(t.Context(), &pb.GetRevocationsRequest{}); err != nil || !bytes.Equal(reply.GetList(), list) {
			t.Errorf("%x, %v; want the list %x", reply.GetList(), err, list)
		}
		if !w.revoked(out.id) || w.revoked(in.id) {
			t.Error("the rounds are told otherwise")
		}
	})
}
