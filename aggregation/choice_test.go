package aggregation

import (
	"math"
	"strings"
	"testing"
)

func TestParseChoice(t *testing.T) {
	for text, want := range map[string]string{
		"fedavg":                           "fedavg:rate=1,mu=0",
		"fedavgm:momentum=0.9,rate=1":      "fedavgm:rate=1,momentum=0.9,mu=0",
		"fedadam":                          "fedadam:rate=0.03,beta1=0.5,beta2=0.99,epsilon=0.0013,mu=0",
		"median":                           "median:rate=1,mu=0",
		"trimmed:share=0.4":                "trimmed:rate=1,share=0.4,mu=0",
		"fedprox":                          "fedprox:rate=1,mu=0.01",
		"fedyogi:beta2=0.9":                "fedyogi:rate=0.03,beta1=0.5,beta2=0.9,epsilon=0.0013,mu=0",
		"fedadagrad:epsilon=1e-2,rate=0.3": "fedadagrad:rate=0.3,beta1=0,epsilon=0.01,mu=0",
	} {
		c, err := ParseChoice(text)
		if err != nil || c.String() != want {
			t.Errorf("%s is %v, %v; want %s", text, c, err, want)
			continue
		}
		if again, err := ParseChoice(c.String()); err != nil || again.String() != want {
			t.Errorf("%s, read again, is %v, %v", want, again, err)
		}
	}
	if got := (Choice{}).String(); !strings.HasPrefix(got, DefaultStrategy+":") {
		t.Errorf("the zero Choice is %s, want %s", got, DefaultStrategy)
	}
	for text, want := range map[string]string{
		"krum":                         "secure aggregation keeps",
		"client-median":                "secure aggregation keeps",
		"scaffold":                     "control variate for each client",
		"fedsgd":                       "not known",
		"fedavg:":                      "key=value",
		"fedavg:rate":                  "key=value",
		"fedavg:rate=fast":             "key=value",
		"fedavg:momentum=0.9":          `no setting "momentum", want rate, mu`,
		"fedavg:rate=1,rate=2":         "twice",
		"fedavg:rate=0":                "above 0",
		"fedavg:rate=NaN":              "above 0",
		"fedavgm:momentum=1":           "not 1",
		"fedavgm:momentum=0.999999999": "not 1",
		"trimmed:share=0.5":            "below 0.5",
		"fedprox:mu=101":               "0 to 100",
		"fedadam:epsilon=0":            "1e-8 to 1",
	} {
		if _, err := ParseChoice(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

func TestProximal(t *testing.T) {
	for text, want := range map[string]float32{"fedavg": 0, "fedprox": 0.01, "fedprox:mu=0.5": 0.5, "fedyogi:mu=0.25": 0.25} {
		if c, err := ParseChoice(text); err != nil || c.Proximal() != want {
			t.Errorf("%s: μ is %v, %v; want %v", text, c.Proximal(), err, want)
		}
	}
}

// The figures of releases before are the same to the bit.
func TestChoicesScaleWithTheSurvivors(t *testing.T) {
	for n := 1; n <= 20_000; n++ {
		lasting := 1.5 * math.Sqrt(float64(n))
		if got, want := (Choice{Name: "fedavgm"}).Strategy(n), (FedAvgM{float32(lasting * (1 - 0.7)), 0.7}); got != want {
			t.Fatalf("%d survivors: %+v, want %+v", n, got, want)
		}
		if got, want := (Choice{Name: "fedavgm"}).Slowed(0.5).Strategy(n), (FedAvgM{float32(lasting * (1 - 0.7)), 0.7}); got != want {
			t.Errorf("%d survivors, slowed: %+v, want %+v", n, got, want)
		}
		if got, want := (Choice{}).Slowed(0.5).Strategy(n), (FedAdam{0.015, 0.5, 0.99, float32(1.3e-3 / math.Sqrt(float64(n)))}); got != want {
			t.Errorf("%d survivors, slowed: %+v, want %+v", n, got, want)
		}
		if got, want := (Choice{}).Strategy(n), (FedAdam{0.03, 0.5, 0.99, float32(1.3e-3 / math.Sqrt(float64(n)))}); got != want {
			t.Fatalf("%d survivors: %+v, want %+v", n, got, want)
		}
	}
}
