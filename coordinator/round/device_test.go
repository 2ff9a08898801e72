package round

import (
	"bytes"
	"crypto/ed25519"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/secagg"
)

// testParams are those of every test's round, but for the cohort.
func testParams() secagg.Params {
	return secagg.Params{Task: "desk", Round: 1, Attempt: 1, Plan: []byte("plan"), CA: testCA().Public().(ed25519.PublicKey),
		Length: 7, RingBits: 20, MinSurvivors: 3, Corrupt: 1000, Dropout: 1000, Keys: secagg.Classical, Rolls: secagg.SignRolls(testCA())}
}

func testCA() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0xca}, 32)) }

// device is one member as it walks through the protocol.
type device struct {
	id         secagg.ID
	signer     secagg.Signer
	rand       *rand.ChaCha8
	vector     []uint32
	commitment [32]byte
	committed  []byte
	message    [steps][]byte // sent or ready to send
	complaint  []byte        // nil where there is nothing to complain of
	reply      [steps][]byte

	checkedIn  *secagg.CheckedIn
	advertised *secagg.Advertised
	shared     *secagg.Shared
	masked     *secagg.Masked
	confirmed  *secagg.Confirmed
}

func newDevice(t testing.TB, i int, p secagg.Params) *device {
	t.Helper()
	d := &device{rand: rand.NewChaCha8([32]byte{byte(i), 7}), vector: make([]uint32, p.Length)}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
	public := key.Public().(ed25519.PublicKey)
	d.id, d.signer = secagg.DeviceID(public), secagg.Signer{Key: key, Credential: secagg.Certify(testCA(), public)}
	for j := range d.vector {
		d.vector[j] = uint32(1000*(i+1) + j)
	}
	var err error
	if d.checkedIn, d.commitment, err = secagg.CheckIn(d.rand); err != nil {
		t.Fatal(err)
	}
	return d
}

// prepare makes the device's message of a step from the reply to the one before.
func (d *device) prepare(p secagg.Params, step Step) (err error) {
	if d.message[step] != nil {
		return nil
	}
	switch step {
	case Advertise:
		d.advertised, d.message[step], err = d.checkedIn.Advertise(p, d.signer, d.committed, d.rand)
	case Share:
		d.shared, d.message[step], err = d.advertised.Share(d.reply[Advertise], d.rand)
	case Submit:
		var masking *secagg.Masking
		if masking, d.complaint, err = d.shared.Open(d.reply[Share]); err != nil {
			return err
		}
		vector := slices.Clone(d.vector)
		masking.Mask(vector, 0, len(vector))
		d.masked = masking.Done()
		d.message[step] = make([]byte, aggregation.PackedSize(len(vector), p.RingBits))
		err = aggregation.Pack(d.message[step], vector, p.RingBits)
	case Confirm:
		d.confirmed, d.message[step], err = d.masked.Confirm(d.reply[Submit])
	case Reveal:
		d.message[step], err = d.confirmed.Reveal(d.reply[Confirm])
	}
	return err
}
