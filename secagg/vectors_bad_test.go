package secagg

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
)

// badFile is the messages that are to be refused.
type badFile struct {
	vectorHead
	Cases []*badVector `json:"cases"`
}

// badVector is a message that a device or a server has to refuse in some attempt, or a
// dealing that a device has to complain about.
type badVector struct {
	Name    string `json:"name"`
	Attempt string `json:"attempt"` // the file of the attempt without its ending
	Cohort  int    `json:"cohort"`
	Step    step   `json:"step"` // which message it is given for
	To      string `json:"to"`   // "device" or "server"
	// Place is the receiving device's, or the sender's in messages to the server: among
	// the check-ins for committed and advert, else in the cohort.
	Place   int     `json:"place"`
	After   bool    `json:"after,omitempty"` // the sender's own message was taken before
	Late    bool    `json:"late,omitempty"`  // the step was closed without the sender's
	Sender  hexed   `json:"sender,omitempty"`
	Revoked []hexed `json:"revoked,omitempty"`
	Reason  string  `json:"reason"`
	Message hexed   `json:"message"`
	// Error is the class of the refusal. It is empty where the message is taken, and
	// answered with a complaint.
	Error     string `json:"error,omitempty"`
	Complaint hexed  `json:"complaint,omitempty"`
}

var errorClasses = map[string]error{
	"member": ErrMember, "differs": ErrDiffers, "malformed": ErrMalformed, "forged": ErrForged, "bad-key": ErrBadKey,
	"too-few": ErrTooFew, "refused": ErrRefused, "mismatch": ErrMismatch, "revoked": ErrRevoked, "late": ErrSpent,
}

// given tells whether a vector belongs to the moment. A complaint that comes after the
// vector belongs to the vector's.
func (m *moment) given(b *badVector) bool {
	at, cohort := m.step, 0
	if at == stepVector && m.after {
		at = stepComplaint
	}
	if m.cohort != nil {
		cohort = m.cohort.out.Cohort
	}
	return b.Attempt == m.run.name && b.Step == at && b.After == m.after && b.Late == m.late && b.Place == m.place && b.Cohort == cohort
}

// feed gives the message to its receiver and returns what is answered. Devices take it
// on copies, servers as they are: a refusal leaves them as they were.
func (m *moment) feed(b *badVector) (complaint []byte, err error) {
	v, c := m.run, m.cohort
	msg := bytes.Clone(b.Message)
	revoked := func(id ID) bool {
		for _, r := range b.Revoked {
			if ID(r) == id {
				return true
			}
		}
		return false
	}
	var d *testDevice
	if c != nil {
		d = c.devices[b.Place]
	} else {
		d = v.devices[b.Place]
	}
	sender := d.id
	if b.Sender != nil {
		sender = ID(b.Sender)
	}
	rand := stream(1, "bad", 0)
	switch b.Step {
	case stepCommitted:
		checkedIn := *d.checkedIn
		_, _, err = checkedIn.Advertise(v.params, d.signer, msg, rand)
	case stepAdvert:
		v.adverts.params.Revoked = revoked
		err = v.adverts.Add(sender, msg)
		v.adverts.params.Revoked = nil
	case stepRoster:
		a := d.advertised.again()
		a.params.Revoked = revoked
		_, _, err = a.Share(msg, rand)
	case stepShares:
		err = c.shares.Add(sender, msg)
	case stepInbox:
		_, complaint, err = d.shared.again().Open(msg)
	case stepComplaint:
		_, err = c.submissions.Complain(sender, msg)
	case stepVector:
		if err = c.submissions.Add(sender); err == nil {
			err = aggregation.AddPacked(c.sum, msg, vectorBits)
		}
	case stepSurvivors:
		_, _, err = d.done.again().Confirm(msg)
	case stepConfirm:
		err = c.confirms.Add(sender, msg)
	case stepQuorum:
		_, err = d.confirmed.again().Reveal(msg)
	case stepReveal:
		err = c.reveals.Add(sender, msg)
	}
	return complaint, err
}

// check feeds a vector and compares the outcome.
func (m *moment) check(t *testing.T, b *badVector) {
	complaint, err := m.feed(b)
	if b.Error != "" {
		if !errors.Is(err, errorClasses[b.Error]) {
			t.Errorf("%s, %s: got error %v, want class %s: %s", b.Attempt, b.Name, err, b.Error, b.Reason)
		}
		return
	}
	if err != nil || !bytes.Equal(complaint, b.Complaint) {
		t.Errorf("%s, %s: got complaint %x and error %v, want %x: %s", b.Attempt, b.Name, complaint, err, b.Complaint, b.Reason)
	}
}

// badBook makes the bad messages of one attempt as it goes along.
type badBook struct {
	m     *moment
	other *vectorRun // the same devices in the next attempt
	late  []byte     // a vector that is sent too late
	list  []*badVector
}

// add notes a message for the receiver, or from the sender, that the moment is about.
func (k *badBook) add(name, class, reason string, message []byte) *badVector {
	b := &badVector{
		Name: name, Attempt: k.m.run.name, Step: k.m.step, Place: k.m.place, After: k.m.after, Late: k.m.late,
		To: "device", Error: class, Reason: reason, Message: bytes.Clone(message),
	}
	switch b.Step {
	case stepAdvert, stepShares, stepComplaint, stepVector, stepConfirm, stepReveal:
		b.To = "server"
	}
	if b.Step == stepVector && b.After {
		b.Step = stepComplaint
	}
	if k.m.cohort != nil {
		b.Cohort = k.m.cohort.out.Cohort
	}
	b.Name = string(b.Step) + ": " + b.Name
	k.list = append(k.list, b)
	return b
}

// shapes adds what no decoder takes, made of a good message.
func (k *badBook) shapes(good []byte) {
	k.add("one byte short", "malformed", "a message has the one length that follows from its step", good[:len(good)-1])
	k.add("one byte long", "malformed", "a message has the one length that follows from its step", append(bytes.Clone(good), 0))
	k.add("nothing", "malformed", "there is no header", []byte{})
	kind, version := bytes.Clone(good), bytes.Clone(good)
	kind[0], version[1] = kind[0]%byte(kindReveal)+1, formatVersion-1
	k.add("another kind", "malformed", "the first byte is another message's", kind)
	k.add("version 3", "malformed", "the second byte is the version before", version)
}

// badAttempts says which messages are made for which attempt.
var badAttempts = map[string]func(*badBook){
	"attempt-classical-5":           (*badBook).classical,
	"attempt-hybrid-3":              (*badBook).hybrid,
	"attempt-classical-13-losses":   (*badBook).losses,
	"attempt-classical-101-sparse":  (*badBook).sparse,
	"attempt-classical-two-cohorts": (*badBook).cohorts,
	"attempt-classical-8-levels":    (*badBook).levels,
}

// TestBadVectors reads the messages that are to be refused and gives each to whom it is
// for, in the attempt that it refers to. The attempts go on afterwards, and to the same
// bytes: nobody else's place is lost.
func TestBadVectors(t *testing.T) {
	file := &badFile{vectorHead: newVectorHead("messages that have to be refused, each with the class of the error; without one, the message is taken and the complaint is what the device answers")}
	const name = "bad.json"
	for _, s := range scenarios {
		forge := badAttempts[s.name]
		if forge == nil {
			continue
		}
		book := &badBook{other: newVectorRun(t, s, 2)}
		book.other.run()
		run := newVectorRun(t, s, 1)
		run.hook = func(m *moment) {
			book.m = m
			forge(book)
		}
		run.run()
		file.Cases = append(file.Cases, book.list...)
	}
	holdVectors(t, name, file)
	raw, err := os.ReadFile(filepath.Join("testdata", "v4", name))
	if err != nil {
		t.Fatal(err)
	}
	read := new(badFile)
	if err := json.Unmarshal(raw, read); err != nil {
		t.Fatal(err)
	}
	if read.Version != formatVersion {
		t.Fatalf("version %d, want %d", read.Version, formatVersion)
	}
	checkAll(t, read.Cases)
}

// checkAll runs the attempts that the cases refer to.
func checkAll(t *testing.T, cases []*badVector) {
	checked := make(map[*badVector]bool)
	for _, s := range scenarios {
		if badAttempts[s.name] == nil {
			continue
		}
		run := newVectorRun(t, s, 1)
		run.hook = func(m *moment) {
			for _, b := range cases {
				if m.given(b) {
					checked[b] = true
					m.check(t, b)
				}
			}
		}
		run.run()
		holdVectors(t, s.name+".json", run.out)
	}
	for _, b := range cases {
		if !checked[b] {
			t.Errorf("%s, %s: there is no such moment", b.Attempt, b.Name)
		}
	}
}
