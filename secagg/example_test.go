package secagg_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/discreet-fl/discreet/secagg"
)

// Three devices and a server in one place. Between the steps stands what a network
// would carry.
func Example() {
	authority, ca, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	params := secagg.Params{
		Task: "support", Round: 1, Attempt: 1, Plan: []byte("what the devices were told"), CA: authority,
		Length: 2, RingBits: 32, Cohort: 3, MinSurvivors: 3,
	}

	// Each device checks in with a commitment.
	var ids []secagg.ID
	var signers []secagg.Signer
	var waiting []*secagg.CheckedIn
	commitments := make(map[secagg.ID][32]byte)
	for i := range 3 {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		must(err)
		signers = append(signers, secagg.Signer{Key: key, Credential: secagg.Certify(ca, pub)}) // at enrolment
		ids = append(ids, secagg.DeviceID(pub))
		device, commitment, err := secagg.CheckIn(rand.Reader)
		must(err)
		waiting, commitments[ids[i]] = append(waiting, device), commitment
	}
	adverts, err := secagg.NewServer(params, commitments)
	must(err)

	var advertised []*secagg.Advertised
	for i, device := range waiting {
		committed, err := adverts.Committed(ids[i])
		must(err)
		next, msg, err := device.Advertise(params, signers[i], committed, rand.Reader)
		must(err)
		advertised = append(advertised, next)
		must(adverts.Add(ids[i], msg))
	}
	cohorts, err := adverts.Close()
	must(err)
	shares := cohorts[0] // three devices are one cohort

	var shared []*secagg.Shared
	for i, device := range advertised {
		roster, err := shares.Roster(ids[i])
		must(err)
		next, msg, err := device.Share(roster, rand.Reader)
		must(err)
		shared = append(shared, next)
		must(shares.Add(ids[i], msg))
	}
	submissions, err := shares.Close()
	must(err)

	sum := make([]uint32, params.Length)
	var masked []*secagg.Masked
	for i, device := range shared {
		inbox, err := submissions.Inbox(ids[i])
		must(err)
		masking, complaint, err := device.Open(inbox)
		must(err)
		if complaint != nil {
			_, err := submissions.Complain(ids[i], complaint)
			must(err)
		}
		vector := []uint32{uint32(i), 100}
		masking.Mask(vector, 0, len(vector))
		masked = append(masked, masking.Done())
		must(submissions.Admit(ids[i]))
		for w, v := range vector { // the server: it sees masked words only
			sum[w] += v
		}
		must(submissions.Add(ids[i]))
	}
	confirms, err := submissions.Close()
	must(err)

	var confirmed []*secagg.Confirmed
	for i, device := range masked {
		survivors, err := confirms.Survivors(ids[i])
		must(err)
		next, msg, err := device.Confirm(survivors)
		must(err)
		confirmed = append(confirmed, next)
		must(confirms.Add(ids[i], msg))
	}
	reveals, err := confirms.Close()
	must(err)

	for i, device := range confirmed {
		msg, err := device.Reveal(reveals.Quorum())
		must(err)
		must(reveals.Add(ids[i], msg))
	}
	unmasking, err := reveals.Close()
	must(err)
	unmasking.Range(sum, 0, len(sum))
	fmt.Println(sum)
	// Output: [3 300]
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
