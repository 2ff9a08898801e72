package dataset

import (
	_ "embed"
	"encoding/csv"
	"strings"
)

//go:embed shop.csv
var shopCSV string

// Shop is the embedded set: what sixty customers of a small shop typed to its
// support desk, thirty intents, a quarter of each held back as test. It was
// written for this package and is under its licence.
//
// Every phrase has its customer. Customers differ in how much they write (11 to
// 70 phrases), in what they ask about, and in how they write: full sentences,
// plain lower case, fragments, or the spelling of text messages. shop.csv is
// ordered by customer, so that each can be read as a person.
func Shop() *Set {
	rows, err := csv.NewReader(strings.NewReader(shopCSV)).ReadAll()
	if err != nil {
		panic("dataset: the embedded shop.csv does not parse: " + err.Error()) // a test reads it
	}
	s := &Set{}
	for _, row := range rows[1:] { // user, intent, split, text
		p := Phrase{Text: row[3], Intent: row[1], User: row[0]}
		if row[2] == "test" {
			s.Test = append(s.Test, p)
		} else {
			s.Train = append(s.Train, p)
		}
	}
	s.Intents = intentsOf(s.Train)
	return s
}
