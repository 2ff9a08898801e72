package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/model"
)

// explain is classify --explain.
func explain(c *cobra.Command, dir, checkpoint, text string, asJSON bool) error {
	var e client.Explanation
	var err error
	if checkpoint != "" {
		e, err = explainWith(checkpoint, text)
	} else {
		err = withDevice(c.Context(), dir, func(d device) (err error) {
			e, err = d.Explain(c.Context(), text)
			return err
		})
	}
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(c.OutOrStdout(), e)
	}
	printExplanation(c.OutOrStdout(), e)
	return nil
}

// explainWith explains with a checkpoint file.
func explainWith(path, text string) (client.Explanation, error) {
	checkpoint, _, err := readCheckpoint(path)
	if err != nil {
		return client.Explanation{}, err
	}
	if strings.TrimSpace(text) == "" {
		return client.Explanation{}, errors.New("the text is empty")
	}
	return client.ExplainWith(model.NewClassifier(checkpoint), text), nil
}

// shownParts is how many parts a terminal shows; --json has all.
const shownParts = 8

func printExplanation(w io.Writer, e client.Explanation) {
	by := ""
	if e.Model == client.Personal {
		by = " (by this device's personal model)"
	}
	if e.Unknown {
		fmt.Fprint(w, "unknown; the nearest is ")
	}
	fmt.Fprintf(w, "%s %s, rather than %s %s%s\n\n", e.Answer.Intent, percent(float64(e.Answer.Confidence)),
		e.Next.Intent, percent(float64(e.Next.Confidence)), by)
	if len(e.Words) == 0 {
		fmt.Fprintln(w, "There are no words in the text: so the model answers whatever has none.")
		return
	}
	most, width := math.Abs(e.Bias), len("(any text)")
	for _, word := range e.Words {
		most = max(most, math.Abs(word.Share))
		width = max(width, utf8.RuneCountInString(word.Text))
	}
	line := func(text string, share float64) {
		full := 0
		if most > 0 {
			full = int(20 * math.Abs(share) / most)
		}
		row := fmt.Sprintf("%s%s  %+.2f %s", text, strings.Repeat(" ", width-utf8.RuneCountInString(text)), share, strings.Repeat("█", full))
		fmt.Fprintln(w, strings.TrimRight(row, " "))
	}
	for _, word := range e.Words {
		line(word.Text, word.Share)
	}
	line("(any text)", e.Bias)
	fmt.Fprintf(w, "%s  %+.2f  %s to 1 for %s, by the model's own odds\n\n", "sum"+strings.Repeat(" ", width-3), e.LogOdds, times(e.LogOdds), e.Answer.Intent)
	fmt.Fprintln(w, "what counted most:")
	var rows [][2]string
	for _, p := range e.Parts[:min(shownParts, len(e.Parts))] {
		rows = append(rows, [2]string{fmt.Sprintf("  %+.2f", p.Share), partName(p)})
	}
	table(w, rows)
}

// times is how many times as probable a difference of logarithms says.
func times(logOdds float64) string {
	switch odds := math.Exp(logOdds); {
	case odds < 100:
		return fmt.Sprintf("%.3g", odds)
	case odds < 1e6:
		return fmt.Sprintf("%.0f", odds)
	}
	return "over a million"
}

func partName(p client.PartShare) string {
	name := map[string]string{
		"word": "the word %q", "pair": "the words %q together", "first": "beginning with %q", "letters": "the letters %q",
		"stems": "the stems %q together", "first stem": "beginning with the stem %q",
	}[p.Kind]
	name = fmt.Sprintf(name, p.Text)
	if p.Times > 1 {
		name += fmt.Sprintf(", %d times", p.Times)
	}
	return name
}
