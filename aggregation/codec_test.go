package aggregation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

var standard = Codec{Clip: 2, Bits: 16, MaxWeight: 64}

// update returns a vector of n coordinates, some beyond the clip.
func update(n int, seed uint64) []float32 {
	source := rand.New(rand.NewPCG(seed, 1))
	u := make([]float32, n)
	for i := range u {
		u[i] = float32(float64(source.Float64()*6) - 3)
	}
	return u
}

// sumOf encodes every update with its weight and adds the words modulo 2^32.
func sumOf(t testing.TB, c Codec, updates [][]float32, weights []int) []uint32 {
	t.Helper()
	sum := make([]uint32, c.Length(len(updates[0])))
	words := make([]uint32, len(sum))
	for i, u := range updates {
		if err := c.Encode(words, u, weights[i], [32]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		for j, w := range words {
			sum[j] += w
		}
	}
	return sum
}

// TestCoordinateBitsFollowTheDevices holds the steps of the rule, and by its formula that no
// number of devices errs more than twenty at 16 bits, nor could with a bit fewer.
func TestCoordinateBitsFollowTheDevices(t *testing.T) {
	for devices, want := range map[int]int{0: 16, 3: 16, 20: 16, 79: 16, 80: 16, 81: 15, 100: 15, 320: 15, 321: 14, 1000: 14, 1280: 14, 1281: 13, 2000: 13} {
		if got := CoordinateBits(devices); got != want {
			t.Errorf("%d devices: %d bits, want %d", devices, got, want)
		}
	}
	inverse := func(devices, bits int) float64 {
		return math.Sqrt(float64(devices)) * (math.Pow(2, float64(bits-1)) - 1)
	} // of the error
	for devices := 20; devices <= 1<<20; devices += 1 + devices/20 {
		bits := CoordinateBits(devices)
		if inverse(devices, bits) < inverse(20, 16) || bits < 16 && inverse(devices, bits-1) >= inverse(20, 16) {
			t.Errorf("%d devices: %d bits", devices, bits)
		}
	}
}

// TestLargerSumsErrNoMore measures how far the decoded mean of devices is from that of their
// updates, at the bits of as many devices.
func TestLargerSumsErrNoMore(t *testing.T) {
	const dim, seed = 5000, 5
	measure := func(devices int) float64 {
		c := Codec{Clip: 4, Bits: CoordinateBits(devices), MaxWeight: 32}
		words, sum, want, weights := make([]uint32, dim+1), make([]uint32, dim+1), make([]float64, dim), 0
		for i := range devices {
			u, weight := update(dim, seed+uint64(i)), 1+i%20
			if err := c.Encode(words, u, weight, [32]byte{byte(i), byte(i >> 8)}); err != nil {
				t.Fatal(err)
			}
			for j, w := range words {
				sum[j] += w
			}
			for j := range u {
				want[j] += float64(weight) * float64(u[j])
			}
			weights += weight
		}
		mean, square := make([]float32, dim), 0.0
		if got, err := c.Decode(mean, lifted(c.RingBits(devices), sum)); err != nil || got != weights {
			t.Fatalf("%d devices: weights of %d, %v; want %d", devices, got, err, weights)
		}
		for j := range mean {
			d := float64(mean[j]) - want[j]/float64(weights)
			square += d * d
		}
		return math.Sqrt(square / dim)
	}
	reference := measure(20)
	for _, devices := range []int{100, 1000} {
		got := measure(devices)
		t.Logf("%d devices: %.3g, %.2f of the error of 20", devices, got, got/reference)
		if got > reference {
			t.Errorf("seed %d, %d devices: the mean is off by %v (root mean square), that of 20 by %v", seed, devices, got, reference)
		}
	}
}

func TestDecodedMeanIsTheWeightedMeanOfClippedUpdates(t *testing.T) {
	const n, dim, seed = 20, 500, 7
	updates, weights, total := make([][]float32, n), make([]int, n), 0
	for i := range updates {
		updates[i], weights[i] = update(dim, seed+uint64(i)), 10*i // the last ones above MaxWeight
		total += min(weights[i], standard.MaxWeight)
	}
	ring := standard.RingBits(n)
	mean := make([]float32, dim)
	weight, err := standard.Decode(mean, lifted(ring, sumOf(t, standard, updates, weights)))
	if err != nil || weight != total {
		t.Fatalf("seed %d: decoded weight %d, %v; want %d", seed, weight, err, total)
	}
	// Each of the n roundings is off by less than one integer.
	bound := n / standard.scale() * float64(standard.MaxWeight) / float64(total)
	for j := range mean {
		var want float64
		for i := range updates {
			want += float64(min(max(updates[i][j], -2), 2)) * float64(min(weights[i], standard.MaxWeight)) / float64(total)
		}
		if math.Abs(float64(mean[j])-want) > bound {
			t.Fatalf("seed %d: coordinate %d decodes to %v, want %v within %v", seed, j, mean[j], want, bound)
		}
	}
}

func TestRoundingHasTheRightExpectation(t *testing.T) {
	// One value between two integers, rounded 40,000 times: the mean of the
	// roundings lies within five standard deviations of the value.
	const n = 40000
	u := make([]float32, n)
	for i := range u {
		u[i] = -0.30001
	}
	words := make([]uint32, n+1)
	if err := standard.Encode(words, u, standard.MaxWeight, [32]byte{3}); err != nil {
		t.Fatal(err)
	}
	var got float64
	for _, w := range words[:n] {
		got += float64(int32(w)) / n
	}
	want := float64(u[0]) * standard.scale()
	p := want - math.Floor(want)
	if deviation := math.Sqrt(p * (1 - p) / n); math.Abs(got-want) > 5*deviation {
		t.Errorf("mean of the roundings of %v is %v, want within %v", want, got, 5*deviation)
	}
}

func TestWorstSumKeepsItsValueWhereFitsSaysSo(t *testing.T) {
	for _, c := range []Codec{{1, 16, 1}, {0.5, 8, 255}, {4, 2, 65535}, {1, 24, 1}} {
		for _, n := range []int{1, 2, 3, 4, 5, 31, 32, 33, 100} {
			ring := c.RingBits(n)
			if ring > 32 {
				continue
			}
			if err := c.Fits(n, ring); err != nil {
				t.Errorf("%+v: %d devices in the ring that RingBits gives: %v", c, n, err)
			}
			if err := c.Fits(n, ring-1); err == nil && c.RingBits(n) == ring {
				t.Errorf("%+v: %d devices fit %d bits, yet RingBits says %d", c, n, ring-1, ring)
			}
			words, sum := make([]uint32, 3), make([]uint32, 3)
			for range n {
				if err := c.Encode(words, []float32{1e30, -1e30}, 1<<30, [32]byte{}); err != nil {
					t.Fatal(err)
				}
				for j := range sum {
					sum[j] += words[j]
				}
			}
			mean := make([]float32, 2)
			weight, err := c.Decode(mean, lifted(ring, sum))
			if err != nil || weight != n*c.MaxWeight || mean[0] != c.Clip || mean[1] != -c.Clip {
				t.Errorf("%+v: %d largest updates decode to %v, weight %d, %v; want ±%v, %d", c, n, mean, weight, err, c.Clip, n*c.MaxWeight)
			}
		}
	}
}

func TestNobodyWithDataDecodesToZero(t *testing.T) {
	mean := update(10, 1)
	weight, err := standard.Decode(mean, lifted(17, sumOf(t, standard, [][]float32{make([]float32, 10), update(10, 2)}, []int{0, 0})))
	if err != nil || weight != 0 {
		t.Fatalf("weight %d, %v; want 0", weight, err)
	}
	for _, m := range mean {
		if m != 0 {
			t.Fatalf("mean %v, want zeros", mean)
		}
	}
}

func TestCodecRefusesBadInput(t *testing.T) {
	dst := make([]uint32, 3)
	decodes := func(total []int64) error { _, err := standard.Decode(make([]float32, 2), total); return err }
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"NaN", standard.Encode(dst, []float32{1, float32(math.NaN())}, 1, [32]byte{}), "coordinate 1 of the update is NaN"},
		{"infinity", standard.Encode(dst, []float32{float32(math.Inf(-1)), 0}, 1, [32]byte{}), "coordinate 0 of the update is -Inf"},
		{"short destination", standard.Encode(dst[:2], make([]float32, 2), 1, [32]byte{}), "2 coordinates into 2 words, want 3"},
		{"negative weight", standard.Encode(dst, make([]float32, 2), -1, [32]byte{}), "weight -1"},
		{"no clip", Codec{0, 16, 1}.Encode(dst, make([]float32, 2), 1, [32]byte{}), "clip is 0"},
		{"NaN clip", Codec{float32(math.NaN()), 16, 1}.Fits(3, 20), "clip is NaN"},
		{"one bit", Codec{1, 1, 1}.Fits(3, 20), "1 bits"},
		{"no weight", Codec{1, 16, 0}.Fits(3, 20), "weight is 0"},
		{"small ring", Codec{1, 16, 1}.Fits(5, 18), "want at least 19 bits"},
		{"weights overflow", Codec{1, 16, 65535}.Fits(16, 17), "want at least 20 bits"},
		{"nobody", standard.Fits(0, 20), "0 devices"},
		{"wide ring", standard.Fits(3, 33), "33 bits"},
		{"short total", decodes(make([]int64, 2)), "want 3 words"},
		{"negative weight of all", decodes([]int64{1, 2, -1}), "weights is -1"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, tc.err, tc.want)
		}
	}
	if err := standard.Encode(dst, []float32{1, float32(math.NaN())}, 1, [32]byte{}); !errors.Is(err, ErrNotFinite) {
		t.Errorf("error %v, want ErrNotFinite", err)
	}
}

// TestEncodingIsTheSameEverywhere holds the encoding's bits, which a round's
// digest rests on, on every platform that runs this test.
func TestEncodingIsTheSameEverywhere(t *testing.T) {
	words := make([]uint32, 1001)
	if err := standard.Encode(words, update(1000, 11), 37, [32]byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for _, w := range words {
		raw = binary.LittleEndian.AppendUint32(raw, w)
	}
	digest := sha256.Sum256(raw)
	if got := hex.EncodeToString(digest[:8]); got != "4dd2e67d2a2e7835" {
		t.Errorf("digest %s, want 4dd2e67d2a2e7835", got)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{267_094, 1_058_326} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			u, words := update(n, 1), make([]uint32, n+1)
			b.SetBytes(int64(4 * n))
			for b.Loop() {
				if err := standard.Encode(words, u, 10, [32]byte{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
