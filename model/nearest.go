package model

import "strings"

// Nearest returns the label with the smallest edit distance to a name, case aside, for errors about names that are
// not known; "" where there are no labels.
func Nearest(name string, labels []string) string {
	best, least := "", 0
	for i, label := range labels {
		if d := distance(strings.ToLower(name), strings.ToLower(label)); i == 0 || d < least {
			best, least = label, d
		}
	}
	return best
}

// distance is Levenshtein's edit distance in bytes (Wagner and Fischer 1974).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
