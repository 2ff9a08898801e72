package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/discreet-fl/discreet/privacy"
)

func newPrivacy() *cobra.Command {
	return parent("privacy", "operate", "Plan differential privacy, and check its arithmetic", newPrivacyPlan(), newPrivacyConvert(), newPrivacyVectors())
}

func newPrivacyConvert() *cobra.Command {
	var rho, epsilon, delta float64
	c := &cobra.Command{
		Use:   "convert (--rho R | --epsilon E) [--delta D]",
		Short: "Convert between ρ of a ledger and ε at δ",
		Long: `Convert tells which ε, at δ, a ledger's ρ stands for, or how much ρ an ε allows; beside
it stands the exact ε of Gaussian noise of that ρ, which is a little less. It is plain
arithmetic: docs/privacy.md has the formulas.`,
		Example: `  discreet privacy convert --rho 0.311
  discreet privacy convert --epsilon 4 --delta 1e-8`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			given := c.Flags().Changed
			switch {
			case given("rho") == given("epsilon"):
				return usagef("give --rho or --epsilon, one of them")
			case !(delta > 0 && delta < 1):
				return usagef("--delta %v, want a number between 0 and 1", delta)
			case given("rho") && !(rho >= 0 && rho <= 1e6):
				return usagef("--rho %v, want 0 to 1e6", rho)
			case given("epsilon") && !(epsilon >= 0 && epsilon <= 1e6):
				return usagef("--epsilon %v, want 0 to 1e6", epsilon)
			case given("epsilon"):
				rho = privacy.Rho(epsilon, delta)
			}
			table(c.OutOrStdout(), [][2]string{
				{"ρ", fmt.Sprintf("%.10g", rho)},
				{"ε", fmt.Sprintf("%.10g at δ %.4g", privacy.Epsilon(rho, delta), delta)},
				{"ε of exact Gaussian noise", fmt.Sprintf("%.10g at δ %.4g", privacy.GaussianEpsilon(math.Sqrt(2*rho), delta), delta)},
			})
			return nil
		},
	}
	c.Flags().Float64Var(&rho, "rho", 0, "ρ of zero-concentrated differential privacy")
	c.Flags().Float64Var(&epsilon, "epsilon", 0, "ε at δ")
	c.Flags().Float64Var(&delta, "delta", 1e-6, "δ")
	return c
}

func newPrivacyVectors() *cobra.Command {
	return &cobra.Command{
		Use: "vectors", Short: "Recompute published values of privacy arithmetic",
		Long: `Vectors recomputes values that others published and prints them beside its own. Each may
be off by a millionth or, where it was published with fewer digits, by half a unit of its
last one. The command fails where one is missed.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			vectors, err := privacy.Vectors()
			if err != nil {
				return err
			}
			return printVectors(c.OutOrStdout(), vectors)
		},
	}
}

// printVectors lists values and fails where one is missed.
func printVectors(w io.Writer, vectors []privacy.Vector) error {
	missed := 0
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "GOT\tWANT\tERROR\t\tVALUE\tSOURCE")
	for _, v := range vectors {
		verdict := "ok"
		if !v.OK() {
			verdict = "missed"
			missed++
		}
		fmt.Fprintf(t, "%.10g\t%.10g\t%.1e\t%s\t%s\t%s\n", v.Got, v.Want, v.Error(), verdict, v.Name, v.Source)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%s of %d missed: do not rely on this build's privacy arithmetic", count(missed, "value"), len(vectors))
	}
	return nil
}
