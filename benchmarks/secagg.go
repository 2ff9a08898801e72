package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/coordinator"
	"github.com/discreet-fl/discreet/secagg"
)

// sumSettings are what a secure sum is measured with. Both processes know them.
type sumSettings struct {
	Devices int     `json:"devices"`
	Dim     int     `json:"dim"`
	Drop    float64 `json:"drop"`    // fraction of a cohort that vanishes after Share
	Cohort  int     `json:"cohort"`  // most members of a cohort
	Corrupt float64 `json:"corrupt"` // fraction that may work for the server
	Dropout float64 `json:"dropout"` // fraction that may vanish
	Keys    string  `json:"keys"`
	Seed    uint64  `json:"seed"`
}

// secaggFigures is what one run of the secagg benchmark measured.
type secaggFigures struct {
	sumSettings
	Cohorts    int `json:"cohorts"`
	Degree     int `json:"degree"`    // neighbours of a member of the first cohort
	Threshold  int `json:"threshold"` // shares that give a secret back
	Survivors  int `json:"survivors"`
	RingBits   int `json:"ring_bits"`
	Expansions int `json:"expansions"`
	// CPU seconds of the server: all messages, adding packed vectors, unmasking. Its
	// whole process spent the last figure, on the pipe to the devices and on memory
	// that is cleared meanwhile.
	ServerSeconds        float64            `json:"server_seconds"`
	ServerSecondsBy      map[string]float64 `json:"server_seconds_by_step"`
	ServerProcessSeconds float64            `json:"server_process_seconds"`
	ServerPeakHeap       uint64             `json:"server_peak_heap_bytes"`
	// CPU seconds of a device that survives, the median: encoding, all steps, masking,
	// packing.
	DeviceSeconds   float64            `json:"device_seconds"`
	DeviceSecondsBy map[string]float64 `json:"device_seconds_by_step"`
	// Bytes of all messages of a device that survives, the mean; expansion is
	// bytes_up against 4·dim.
	BytesUp     float64            `json:"bytes_up"`
	BytesDown   float64            `json:"bytes_down"`
	BytesUpBy   map[string]float64 `json:"bytes_up_by_message"`
	BytesDownBy map[string]float64 `json:"bytes_down_by_message"`
	Expansion   float64            `json:"expansion"`
	// The limits: key stream of AES-256-CTR in cache and reading memory out of cache,
	// bytes a second on one core, and Ed25519 signatures verified in one; and the CPU seconds
	// in which the first writes all the masks that the server removes and the second reads the
	// packed vectors once, and those in which the first writes the masks of a device and the
	// third verifies the signatures that are shown to it, the mean.
	AESBytesPerSecond    float64 `json:"aes_ctr_bytes_per_second"`
	MemoryBytesPerSecond float64 `json:"memory_bytes_per_second"`
	VerifiesPerSecond    float64 `json:"ed25519_verifies_per_second"`
	MaskBytes            int     `json:"key_stream_bytes_of_a_mask"`
	DeviceVerifies       float64 `json:"device_ed25519_verifies"`
	DeviceMasks          float64 `json:"device_masks"`
	ServerLimit          float64 `json:"server_limit_seconds"`
	DeviceLimit          float64 `json:"device_limit_seconds"`
	Seconds              float64 `json:"seconds"` // by the clock, everything
	Machine              string  `json:"machine"`
}

// settingsFlags defines the flags of the settings.
func settingsFlags(set *flag.FlagSet) *sumSettings {
	s := &sumSettings{}
	set.IntVar(&s.Devices, "devices", 100, "devices in the round")
	set.IntVar(&s.Dim, "dim", 1_000_000, "parameters of the model")
	set.Float64Var(&s.Drop, "drop", 0.2, "fraction of the devices that vanish after Share")
	set.IntVar(&s.Cohort, "cohort", 1000, "most devices of a cohort; more are split into cohorts of their own")
	set.Float64Var(&s.Corrupt, "corrupt", 0.1, "fraction of a cohort that may work for the server, up to 0.3333")
	set.Float64Var(&s.Dropout, "dropout", 0.1, "fraction of a cohort that may vanish, up to 0.3333")
	set.StringVar(&s.Keys, "keys", secagg.Hybrid.String(), "hybrid or classical")
	set.Uint64Var(&s.Seed, "seed", 1, "seed of the updates and of who vanishes; keys are always fresh")
	return s
}

// runSecagg measures one secure sum: the server in this process, all devices in
// another, one at a time, the dropped ones gone after Share. It fails unless the sum is
// the survivors' plain sum.
func runSecagg(args []string) error {
	set := flag.NewFlagSet("secagg", flag.ContinueOnError)
	settings := settingsFlags(set)
	table := set.Duration("table", 0, "print the table of sizes in benchmarks/README.md instead, as far as a row takes no longer than this")
	out := set.String("json", "-", "file for the figures; - is standard output")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *table > 0 {
		return writeTable(os.Stdout, *settings, *table)
	}
	figures, err := measureSum(*settings)
	if err != nil {
		return err
	}
	return writeJSON(*out, figures)
}

// codec is how updates are encoded: as in every plan of so many devices.
func (s *sumSettings) codec() aggregation.Codec { return coordinator.Codec(s.Devices, s.Cohort) }

// ringBits is the ring in which a cohort's sum holds.
func (s *sumSettings) ringBits() int { return s.codec().RingBits(s.members()) }

// members is the most members that a cohort has.
func (s *sumSettings) members() int { return min(s.Devices, s.Cohort) }

// params are the parameters of the attempt under this enrolment authority. They refuse
// settings that are out of bounds.
func (s *sumSettings) params(ca []byte) (secagg.Params, error) {
	keys := slices.IndexFunc([]secagg.KeyExchange{secagg.Hybrid, secagg.Classical}, func(x secagg.KeyExchange) bool { return x.String() == s.Keys })
	switch {
	case s.Devices < 1 || s.Dim < 1 || s.Cohort < 1 || s.Drop < 0 || s.Drop >= 1:
		return secagg.Params{}, fmt.Errorf("secagg: %d devices in cohorts of %d, dim %d, drop %v: want at least one of each and a fraction below 1",
			s.Devices, s.Cohort, s.Dim, s.Drop)
	case keys < 0:
		return secagg.Params{}, fmt.Errorf("secagg: keys %q, want %v or %v", s.Keys, secagg.Hybrid, secagg.Classical)
	}
	if err := s.codec().Fits(s.members(), s.ringBits()); err != nil {
		return secagg.Params{}, err
	}
	return secagg.Params{
		Task: "benchmark", Round: 1, Attempt: 1, Plan: []byte("benchmark"), CA: ca,
		Length: s.codec().Length(s.Dim), RingBits: s.ringBits(), Cohort: s.members(), MinSurvivors: secagg.MinCohort,
		Corrupt: int(math.Round(s.Corrupt * 10_000)), Dropout: int(math.Round(s.Dropout * 10_000)),
		Keys: secagg.KeyExchange(keys),
	}, nil
}

// writeJSON writes the value, indented, to the file or to standard output for "-".
func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if file == "-" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
