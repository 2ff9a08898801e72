package main

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator/round"
	"github.com/discreet-fl/discreet/secagg"
)

// sumServer is the server of a secure sum.
type sumServer struct {
	settings sumSettings
	params   secagg.Params
	pipe     *pipe
	device   map[secagg.ID]int // its number in the devices' process
	random   *mathrand.Rand    // who vanishes

	figures  secaggFigures
	cpu      map[string]time.Duration // by step
	up, down map[secagg.ID]map[string]int
	sum      []uint32
	total    []int64
	packed   []byte
	reply    []byte // of the roster or inbox before, as coordinators use it again
}

// measureSum starts the devices, runs a round and returns what it took.
func measureSum(settings sumSettings) (_ *secaggFigures, err error) {
	began := time.Now()
	if _, err := settings.params(nil); err != nil {
		return nil, err
	}
	devices, link, err := startDevices()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, devices.stop()) }()
	s := &sumServer{
		settings: settings, pipe: link, random: mathrand.New(mathrand.NewPCG(settings.Seed, 0)),
		cpu: map[string]time.Duration{}, up: map[secagg.ID]map[string]int{}, down: map[secagg.ID]map[string]int{},
	}
	before := cpuTime()
	if err := s.run(); err != nil {
		return nil, fmt.Errorf("secagg: %w", err)
	}
	s.figures.ServerProcessSeconds = (cpuTime() - before).Seconds()
	if err := s.summarise(); err != nil {
		return nil, err
	}
	s.figures.Seconds = time.Since(began).Seconds()
	return &s.figures, nil
}

// startDevices runs this program again as the devices.
func startDevices() (*process, *pipe, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	p := &process{Cmd: exec.Command(self, devicesArgument)}
	p.Stderr = os.Stderr
	if p.input, err = p.StdinPipe(); err != nil {
		return nil, nil, err
	}
	output, err := p.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return p, newPipe(output, p.input.(io.Writer)), p.Start()
}

// serve runs a part of a step of the server and charges its CPU time.
func (s *sumServer) serve(step string, f func() error) error {
	took, err := cpuOf(f)
	s.cpu[step] += took
	return err
}

// exchange sends a device the server's message of one name and returns its answer of
// another; both are counted. The answer is in the buffer where that is large enough.
func (s *sumServer) exchange(kind byte, id secagg.ID, sent string, msg []byte, got string, buffer []byte) ([]byte, error) {
	answer, err := s.pipe.ask(kind, s.device[id], msg, buffer)
	if sent != "" {
		s.down[id][sent] += len(msg)
	}
	s.up[id][got] += len(answer)
	return answer, err
}

// run is the whole round, cohort after cohort.
func (s *sumServer) run() error {
	adverts, err := s.checkIn()
	if err != nil {
		return fmt.Errorf("check-in: %w", err)
	}
	cohorts, err := s.advertise(adverts)
	if err != nil {
		return fmt.Errorf("advertise: %w", err)
	}
	s.figures.Cohorts = len(cohorts)
	for i, cohort := range cohorts {
		cohorts[i] = nil
		if err := s.cohort(cohort); err != nil {
			return fmt.Errorf("cohort %d of %d: %w", i+1, len(cohorts), err)
		}
	}
	return s.compare()
}

func (s *sumServer) checkIn() (adverts *secagg.Adverts, err error) {
	settings, err := json.Marshal(s.settings)
	if err != nil {
		return nil, err
	}
	answer, err := s.pipe.ask(askEnrol, 0, settings, nil)
	if err != nil {
		return nil, err
	}
	var told enrolment
	if err := json.Unmarshal(answer, &told); err != nil {
		return nil, err
	}
	if s.params, err = s.settings.params(told.CA.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	s.params.Rolls = secagg.SignRolls(told.CA)
	commitments := map[secagg.ID][32]byte{}
	s.device = map[secagg.ID]int{}
	for i, d := range told.Devices {
		commitments[d.ID], s.device[d.ID] = d.Commitment, i
		s.up[d.ID], s.down[d.ID] = map[string]int{"check-in": len(d.Commitment)}, map[string]int{}
	}
	s.sum, s.total = make([]uint32, s.params.Length), make([]int64, s.params.Length)
	s.packed = make([]byte, aggregation.PackedSize(s.params.Length, s.params.RingBits))
	err = s.serve("advertise", func() error { adverts, err = secagg.NewServer(s.params, commitments); return err })
	return adverts, err
}

func (s *sumServer) advertise(adverts *secagg.Adverts) (cohorts []*secagg.Shares, err error) {
	for _, id := range adverts.Members() {
		var committed []byte
		if err := s.serve("advertise", func() error { committed, err = adverts.Committed(id); return err }); err != nil {
			return nil, err
		}
		advert, err := s.exchange(askAdvertise, id, "committed", committed, "advert", nil)
		if err == nil {
			err = s.serve("advertise", func() error { return adverts.Add(id, advert) })
		}
		if err != nil {
			return nil, err
		}
	}
	err = s.serve("advertise", func() error { cohorts, err = adverts.Close(); return err })
	return cohorts, err
}

// cohort takes one cohort from its roster to its part of the total.
func (s *sumServer) cohort(shares *secagg.Shares) error {
	submissions, err := s.share(shares)
	if err != nil {
		return fmt.Errorf("share: %w", err)
	}
	stay, err := s.vanish(submissions.Members())
	if err != nil {
		return err
	}
	confirms, err := s.submit(submissions, stay)
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	reveals, err := s.confirm(confirms)
	if err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	if err := s.reveal(reveals); err != nil {
		return fmt.Errorf("reveal: %w", err)
	}
	s.figures.Survivors += len(stay)
	return nil
}

// vanish draws who vanishes, has them do so and returns who stays.
func (s *sumServer) vanish(members []secagg.ID) (stay []secagg.ID, err error) {
	gone := int(s.settings.Drop * float64(len(members)))
	for n, i := range s.random.Perm(len(members)) {
		if id := members[i]; n >= gone {
			stay = append(stay, id)
		} else if _, err := s.pipe.ask(askVanish, s.device[id], nil, nil); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(stay, func(a, b secagg.ID) int { return slices.Compare(a[:], b[:]) })
	return stay, nil
}

func (s *sumServer) share(shares *secagg.Shares) (submissions *secagg.Submissions, err error) {
	for _, id := range shares.Members() {
		var roster []byte
		if err := s.serve("share", func() error { roster, err = shares.AppendRoster(s.reply[:0], id); s.reply = roster; return err }); err != nil {
			return nil, err
		}
		sealed, err := s.exchange(askShare, id, "roster", roster, "shares", nil)
		if err == nil {
			err = s.serve("share", func() error { return shares.Add(id, sealed) })
		}
		if err != nil {
			return nil, err
		}
	}
	err = s.serve("share", func() error { submissions, err = shares.Close(); return err })
	return submissions, err
}

func (s *sumServer) submit(submissions *secagg.Submissions, stay []secagg.ID) (confirms *secagg.Confirms, err error) {
	clear(s.sum)
	for _, id := range stay {
		var inbox []byte
		if err := s.serve("submit", func() error { inbox, err = submissions.AppendInbox(s.reply[:0], id); s.reply = inbox; return err }); err != nil {
			return nil, err
		}
		// Above a hundred members everybody sends a complaint, which holds its pledge.
		complaint, err := s.exchange(askOpen, id, "inbox", inbox, "complaint", nil)
		if err == nil && len(complaint) > 0 {
			err = s.serve("submit", func() error { _, err := submissions.Complain(id, complaint); return err })
		}
		if err != nil {
			return nil, err
		}
		vector, err := s.exchange(askSubmit, id, "", nil, "vector", s.packed)
		if err == nil {
			err = s.serve("sum", func() error {
				if err := submissions.Admit(id); err != nil {
					return err
				}
				return errors.Join(aggregation.AddPacked(s.sum, vector, s.params.RingBits), submissions.Add(id))
			})
		}
		if err != nil {
			return nil, err
		}
	}
	err = s.serve("submit", func() error { confirms, err = submissions.Close(); return err })
	return confirms, err
}

func (s *sumServer) confirm(confirms *secagg.Confirms) (reveals *secagg.Reveals, err error) {
	for _, id := range confirms.Members() {
		var survivors []byte
		if err := s.serve("confirm", func() error { survivors, err = confirms.Survivors(id); return err }); err != nil {
			return nil, err
		}
		signature, err := s.exchange(askConfirm, id, "survivors", survivors, "confirm", nil)
		if err == nil {
			err = s.serve("confirm", func() error { return confirms.Add(id, signature) })
		}
		if err != nil {
			return nil, err
		}
	}
	err = s.serve("confirm", func() error { reveals, err = confirms.Close(); return err })
	return reveals, err
}

func (s *sumServer) reveal(reveals *secagg.Reveals) error {
	for _, id := range reveals.Members() {
		reveal, err := s.exchange(askReveal, id, "quorum", reveals.Quorum(), "reveal", nil)
		if err == nil {
			err = s.serve("reveal", func() error { return reveals.Add(id, reveal) })
		}
		if err != nil {
			return err
		}
	}
	var unmasking *secagg.Unmasking
	if err := s.serve("reveal", func() (err error) { unmasking, err = reveals.Close(); return err }); err != nil {
		return err
	}
	s.figures.Expansions += unmasking.Expansions()
	return s.serve("unmask", func() error {
		round.CohortSummed{Unmasking: unmasking, Sum: s.sum}.Unmask()
		aggregation.Lift(s.total, s.sum, len(s.sum)-1, s.params.RingBits)
		return nil
	})
}

// compare has the devices hold the total to the survivors' plain sum.
func (s *sumServer) compare() error {
	const words = 1 << 16
	for at := 0; at < len(s.total); at += words {
		part := binary.LittleEndian.AppendUint64(nil, uint64(at))
		for _, w := range s.total[at:min(at+words, len(s.total))] {
			part = binary.LittleEndian.AppendUint64(part, uint64(w))
		}
		if _, err := s.pipe.ask(askCompare, 0, part, nil); err != nil {
			return err
		}
	}
	return nil
}

// summarise fills in the figures of a round that went well.
func (s *sumServer) summarise() error {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	answer, err := s.pipe.ask(askFigures, 0, nil, nil)
	if err != nil {
		return err
	}
	var devices deviceFigures
	if err := json.Unmarshal(answer, &devices); err != nil {
		return err
	}
	f := &s.figures
	f.sumSettings, f.RingBits, f.Machine = s.settings, s.params.RingBits, machine()
	f.ServerPeakHeap = memory.HeapSys // it never shrinks: the largest the heap has been
	f.ServerSecondsBy = map[string]float64{}
	for step, took := range s.cpu {
		f.ServerSecondsBy[step] = took.Seconds()
		f.ServerSeconds += took.Seconds()
	}
	f.DeviceSeconds, f.DeviceSecondsBy = devices.Seconds, devices.By
	f.BytesUp, f.BytesUpBy = survivorsMean(s.up)
	f.BytesDown, f.BytesDownBy = survivorsMean(s.down)
	f.Expansion = f.BytesUp / float64(4*f.Dim)
	f.Degree, f.Threshold = s.graph()
	s.limit()
	return nil
}

// limit fills in the limits. A device verifies the one roll that its cohort's members are in,
// its neighbours' adverts and shares (nobody vanishes before those), the pledges among what it
// is shown of the survivors, and the quorum; it adds a mask with each neighbour and one of its
// own.
func (s *sumServer) limit() {
	f := &s.figures
	f.AESBytesPerSecond, f.MemoryBytesPerSecond, f.VerifiesPerSecond = aesRate(), memoryRate(), verifyRate()
	f.MaskBytes = s.params.MaskBytes()
	members := float64(f.Devices) / float64(f.Cohorts)
	signatures := func(message string) float64 { // what is left in it is less than one
		return math.Floor((f.BytesDownBy[message] - members/8) / ed25519.SignatureSize)
	}
	f.DeviceMasks = float64(f.Degree) + 1
	f.DeviceVerifies = 1 + 2*float64(f.Degree) + signatures("survivors") + signatures("quorum")
	f.ServerLimit = float64(f.Expansions)*float64(f.MaskBytes)/f.AESBytesPerSecond +
		float64(f.Survivors)*float64(len(s.packed))/f.MemoryBytesPerSecond
	f.DeviceLimit = f.DeviceMasks*float64(f.MaskBytes)/f.AESBytesPerSecond + f.DeviceVerifies/f.VerifiesPerSecond
}

// survivorsMean is the mean of the bytes of those who have come to the last step, by
// message and together.
func survivorsMean(bytes map[secagg.ID]map[string]int) (sum float64, by map[string]float64) {
	by = map[string]float64{}
	survivors := 0
	for _, of := range bytes {
		if of["reveal"] == 0 && of["quorum"] == 0 {
			continue
		}
		survivors++
		for name, n := range of {
			by[name] += float64(n)
		}
	}
	for name := range by {
		by[name] /= float64(survivors)
		sum += by[name]
	}
	return sum, by
}

// graph is the degree and the threshold of a full cohort's graph.
func (s *sumServer) graph() (degree, threshold int) {
	const sigma, eta = 80, 30 // as docs/protocol.md has them
	n := s.params.Cohort
	if n > secagg.CompleteGraph {
		if k, t, ok := secagg.Search(n, s.params.Corrupt, s.params.Dropout, sigma, eta); ok {
			return k, t
		}
	}
	return n - 1, secagg.Threshold(n)
}
