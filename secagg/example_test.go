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
	adverts, err := secagg.NewServer(params)
	must(err)

	var ids []secagg.ID
	var advertised []*secagg.Advertised
	for range 3 {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		must(err)
		signer := secagg.Signer{Key: key, Credential: secagg.Certify(ca, pub)} // at enrolment
		device, advert, err := secagg.Advertise(params, signer, rand.Reader)
		must(err)
		advertised, ids = append(advertised, device), append(ids, secagg.DeviceID(pub))
		must(adverts.Add(secagg.DeviceID(pub), advert))
	}

	shares, roster, err := adverts.Close()
	must(err)
	var shared []*secagg.Shared
	for i, device := range advertised {
		next, msg, err := device.Share(roster, rand.Reader)
		must(err)
		shared = append(shared, next)
		must(shares.Add(ids[i], msg))
	}

	submissions, inboxes, err := shares.Close()
	must(err)
	sum := make([]uint32, params.Length)
	var masked []*secagg.Masked
	for i, device := range shared {
		masking, err := device.Open(inboxes[ids[i]])
		must(err)
		vector := []uint32{uint32(i), 100}
		masking.Mask(vector, 0, len(vector))
		masked = append(masked, masking.Done())
		for w, v := range vector { // the server: it sees masked words only
			sum[w] += v
		}
		must(submissions.Add(ids[i]))
	}

	reveals, survivors, err := submissions.Close()
	must(err)
	for i, device := range masked {
		msg, err := device.Reveal(survivors)
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
