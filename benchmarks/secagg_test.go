package main

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// TestMain lets the benchmark run this test program again as the devices.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == devicesArgument {
		main()
		return
	}
	os.Exit(m.Run())
}

var sumTest = sumSettings{Devices: 12, Dim: 1000, Drop: 0.2, Cohort: 12, Corrupt: 0.1, Dropout: 0.1, Keys: "hybrid", Seed: 1}

func TestMeasureSum(t *testing.T) {
	for name, tc := range map[string]struct {
		change                         func(*sumSettings)
		cohorts, survivors, expansions int
		verifies                       func(degree int) int
	}{
		"one cohort":    {func(*sumSettings) {}, 1, 10, 10 + 2*10, func(k int) int { return 1 + 2*k + secagg.Quorum(12, 1000) }},
		"classical":     {func(s *sumSettings) { s.Keys = "classical" }, 1, 10, 10 + 2*10, func(k int) int { return 1 + 2*k + secagg.Quorum(12, 1000) }},
		"three cohorts": {func(s *sumSettings) { s.Cohort, s.Drop = 4, 0.25 }, 3, 9, 3 * (3 + 3), func(k int) int { return 1 + 2*k + secagg.Quorum(4, 1000) }},
		"nobody drops":  {func(s *sumSettings) { s.Drop = 0 }, 1, 12, 12, func(k int) int { return 1 + 2*k + secagg.Quorum(12, 1000) }},
		"sparse graph": {func(s *sumSettings) { s.Devices, s.Cohort, s.Keys, s.Drop = 101, 101, "classical", 0 }, 1, 101, 101,
			func(k int) int { return 1 + 3*k + secagg.Quorum(101, 1000) }},
	} {
		s := sumTest
		tc.change(&s)
		f, err := measureSum(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.Cohorts != tc.cohorts || f.Survivors != tc.survivors || f.Expansions != tc.expansions {
			t.Errorf("%s: %d cohorts, %d survivors, %d masks; want %d, %d, %d",
				name, f.Cohorts, f.Survivors, f.Expansions, tc.cohorts, tc.survivors, tc.expansions)
		}
		if want := float64(tc.verifies(f.Degree)); f.DeviceVerifies != want || f.DeviceMasks != float64(f.Degree+1) {
			t.Errorf("%s: a device verifies %v signatures and adds %v masks, want %v and %d", name, f.DeviceVerifies, f.DeviceMasks, want, f.Degree+1)
		}
		if keys := map[string]int{"hybrid": 1216, "classical": 32}[s.Keys]; f.Cohorts == 1 { // no credential is in it
			n := s.Devices
			if want := float64(2 + 2 + (n+7)/8 + 96*n + 1 + 4 + 2*((n+7)/8) + 64 + f.Degree*(2*keys+64)); f.BytesDownBy["roster"] != want {
				t.Errorf("%s: a roster of %v bytes, want %v", name, f.BytesDownBy["roster"], want)
			}
		}
		sent := 0.0
		for _, n := range f.BytesUpBy {
			sent += n
		}
		if f.BytesUp != sent || f.BytesUpBy["vector"] < float64(1001*f.RingBits/8) || f.Expansion != f.BytesUp/4000 {
			t.Errorf("%s: bytes up are %v, %v, expansion %v", name, f.BytesUp, f.BytesUpBy, f.Expansion)
		}
		for figure, value := range map[string]float64{
			"server": f.ServerSeconds, "device": f.DeviceSeconds, "limit": f.ServerLimit, "device's limit": f.DeviceLimit, "heap": float64(f.ServerPeakHeap), "down": f.BytesDown,
		} {
			if value <= 0 {
				t.Errorf("%s: the figure of %s is %v", name, figure, value)
			}
		}
	}
}

func TestMeasureSumRefuses(t *testing.T) {
	for want, change := range map[string]func(*sumSettings){
		"keys \"none\"":  func(s *sumSettings) { s.Keys = "none" },
		"drop 1":         func(s *sumSettings) { s.Drop = 1 },
		"dim 0":          func(s *sumSettings) { s.Dim = 0 },
		"too few":        func(s *sumSettings) { s.Drop = 0.9 },
		"out of bounds":  func(s *sumSettings) { s.Corrupt = 0.5 },
		"cohorts of -1,": func(s *sumSettings) { s.Cohort = -1 },
	} {
		s := sumTest
		change(&s)
		if _, err := measureSum(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// TestCompareFindsAWrongWord: what the figures rest on is that a wrong sum fails.
func TestCompareFindsAWrongWord(t *testing.T) {
	d := &sumDevices{plain: []int64{5, -1, 7}}
	part := func(at uint64, words ...int64) []byte {
		b := binary.LittleEndian.AppendUint64(nil, at)
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, uint64(w))
		}
		return b
	}
	for _, tc := range []struct {
		part []byte
		want string
	}{
		{part(0, 5, -1, 7), ""},
		{part(1, -1), ""},
		{part(1, -1, 8), "word 2 of the secure sum is 8"},
		{part(2, 7, 0), "words 2 to 4 of 3"},
		{part(1 << 63), "words"},
		{[]byte{1}, "1 bytes"},
	} {
		err := d.compare(tc.part)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

func TestTableLeavesOutWhatTakesLong(t *testing.T) {
	var b strings.Builder
	if err := writeTable(&b, sumTest, time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "left out"); n != 4*4*3 {
		t.Errorf("%d rows are left out, want all:\n%s", n, b.String())
	}
	for _, run := range tableRuns(sumTest) {
		if run.Drop > run.Dropout {
			t.Errorf("%+v lets more vanish than it bears", run)
		}
	}
}
