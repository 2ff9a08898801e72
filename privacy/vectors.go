package privacy

import (
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

//go:embed testdata/accountant.json
var vectorFile embed.FS

// A Vector is a published value and what this package makes of it.
type Vector struct {
	Name      string // what was computed, with its arguments
	Source    string // where the value was published
	Got, Want float64
	Tolerance float64 // by how much Got may be off
}

// OK tells whether the value was met.
func (v Vector) OK() bool { return math.Abs(v.Got-v.Want) <= v.Tolerance }

// Error is how far Got is off, as a share of Want.
func (v Vector) Error() float64 { return math.Abs(v.Got-v.Want) / math.Abs(v.Want) }

// published is testdata/accountant.json. Numbers that are wanted are kept as they are
// written, so that it is known to how many digits they were published.
type published struct {
	Sampled []struct {
		Q, Sigma, Delta float64
		Steps           int
		Orders          string
		Epsilon         json.Number
		Alpha           float64
		Signed, Exact   json.Number
		Source          string
	} `json:"sampled_gaussian_epsilon"`
	SampledRDP []struct {
		Q, Sigma, Alpha float64
		RDP             json.Number
		Source          string
	} `json:"sampled_gaussian_rdp_x50"`
	Conversion []struct {
		RDP, Delta float64
		Epsilon    json.Number
		Alpha      float64
		Source     string
	} `json:"rdp_to_epsilon"`
	Delta []struct {
		Sigma, Epsilon float64
		Delta          json.Number
		Source         string
	} `json:"exact_gaussian_delta"`
	Rho   map[string]json.Number `json:"rho_for_epsilon_at_delta_1e-6"`
	Tree  [][4]int               `json:"tree_sensitivity_squared_k_xi_T"`
	Exact []zcdpVector           `json:"zcdp_exact_gaussian_epsilon"`
	Bound []zcdpVector           `json:"zcdp_to_epsilon_bound"`
}

type zcdpVector struct {
	Rho, Delta float64
	Epsilon    json.Number
	Source     string
}

// recomputation collects vectors.
type recomputation struct {
	vectors []Vector
	err     error
}

// Vectors recomputes the published values that are kept with this package. Each may be
// off by a millionth of itself or, where it was published with fewer digits, by half a
// unit of its last one.
func Vectors() ([]Vector, error) {
	raw, err := vectorFile.ReadFile("testdata/accountant.json")
	if err != nil {
		return nil, err
	}
	var p published
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("privacy: the published values: %w", err)
	}
	var r recomputation
	r.sampled(p)
	for _, v := range p.Conversion {
		epsilon, alpha := BestEpsilon(steps(2, 32, 1), func(float64) float64 { return v.RDP }, v.Delta)
		name := fmt.Sprintf("ε of RDP %v at orders 2 to 32, δ=%v", v.RDP, v.Delta)
		r.add(name, v.Source, epsilon, v.Epsilon)
		r.exactly("the order of it, RDP "+fmt.Sprint(v.RDP), v.Source, alpha, v.Alpha)
	}
	for _, v := range p.Delta {
		r.add(fmt.Sprintf("exact δ of a Gaussian, σ=%v, ε=%v", v.Sigma, v.Epsilon), v.Source, GaussianDelta(1/v.Sigma, v.Epsilon), v.Delta)
	}
	for _, epsilon := range []string{"1", "2", "4", "8"} {
		at, err := json.Number(epsilon).Float64()
		if err != nil {
			return nil, err
		}
		r.add(fmt.Sprintf("ρ for ε=%s at δ=1e-06", epsilon), "", Rho(at, 1e-6), p.Rho[epsilon])
	}
	for _, v := range p.Tree {
		r.exactly(fmt.Sprintf("squared sensitivity of a tree, %d times, %d rounds between, %d rounds", v[0], v[1], v[2]),
			"", TreeSensitivity(v[2], v[1]+1, v[0]), float64(v[3]))
	}
	source := ""
	for _, v := range p.Exact {
		source = origin(v.Source, source)
		r.add(fmt.Sprintf("exact ε of a Gaussian, ρ=%v, δ=%v", v.Rho, v.Delta), source, GaussianEpsilon(math.Sqrt(2*v.Rho), v.Delta), v.Epsilon)
	}
	for _, v := range p.Bound {
		r.add(fmt.Sprintf("ε of ρ=%v, δ=%v", v.Rho, v.Delta), v.Source, Epsilon(v.Rho, v.Delta), v.Epsilon)
	}
	return r.vectors, r.err
}

// sampled recomputes what concerns the sampled Gaussian.
func (r *recomputation) sampled(p published) {
	source := ""
	for _, v := range p.Sampled {
		source = origin(v.Source, source)
		name := fmt.Sprintf("q=%v, σ=%v, %d rounds, δ=%v", v.Q, v.Sigma, v.Steps, v.Delta)
		if v.Orders == "dense" {
			r.exactly("ε of a Gaussian over all orders, "+name, source, Epsilon(float64(v.Steps)*GaussianRho(1, v.Sigma), v.Delta), float(v.Epsilon))
			continue
		}
		epsilon, alpha := BestEpsilon(orders[v.Orders], func(alpha float64) float64 {
			return float64(v.Steps) * SampledGaussianRDP(alpha, v.Q, v.Sigma)
		}, v.Delta)
		want := v.Epsilon
		if v.Signed != "" {
			want = v.Signed
		}
		r.add("ε of a sampled Gaussian, "+name, source, epsilon, want)
		if v.Alpha != 0 {
			r.exactly("the order of it, "+name, source, alpha, v.Alpha)
		}
		if v.Exact != "" {
			r.add("exact ε of a Gaussian, "+name, source, GaussianEpsilon(math.Sqrt(float64(v.Steps))/v.Sigma, v.Delta), v.Exact)
		}
	}
	for _, v := range p.SampledRDP {
		source = origin(v.Source, source)
		r.add(fmt.Sprintf("RDP of a sampled Gaussian, α=%v, q=%v, σ=%v, 50 rounds", v.Alpha, v.Q, v.Sigma), source,
			50*SampledGaussianRDP(v.Alpha, v.Q, v.Sigma), v.RDP)
	}
}

// origin is a value's source, which may be that of the value before.
func origin(source, before string) string {
	if source == "same" {
		return before
	}
	return source
}

// orders are the lists of orders by the names that the published values have for them.
var orders = map[string][]float64{
	"A": append(steps(1.1, 10.9, 0.1), steps(12, 63, 1)...),
	"B": append(append([]float64{1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5}, steps(5, 63, 1)...), 128, 256, 512),
	"C": append(append(steps(1.1, 10.9, 0.1), steps(11, 63, 1)...), 128, 256, 512, 1024),
}

// steps are the numbers from first to last, each by step above the one before.
func steps(first, last, step float64) []float64 {
	var all []float64
	for i := 0; ; i++ {
		x := math.Round((first+float64(i)*step)*1000) / 1000
		if x > last {
			return all
		}
		all = append(all, x)
	}
}

// add notes a value with the tolerance that its digits give it.
func (r *recomputation) add(name, source string, got float64, want json.Number) {
	w := float(want)
	mantissa, _, _ := strings.Cut(strings.ToLower(string(want)), "e")
	_, decimals, _ := strings.Cut(mantissa, ".")
	half := 0.5 * math.Pow10(-len(decimals))
	r.vectors = append(r.vectors, Vector{name, source, got, w, max(half, 1e-6*math.Abs(w))})
	if w == 0 {
		r.err = fmt.Errorf("privacy: the published value of %s is %q, want a number", name, want)
	}
}

// exactly notes a value that was published without an error, but for a millionth.
func (r *recomputation) exactly(name, source string, got, want float64) {
	r.vectors = append(r.vectors, Vector{name, source, got, want, 1e-6 * want})
}

// float is a number of the file, 0 where it is none.
func float(n json.Number) float64 {
	x, err := n.Float64()
	if err != nil {
		return 0
	}
	return x
}
