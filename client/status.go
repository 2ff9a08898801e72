package client

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// keyWarning says what the folder's encryption is worth.
const keyWarning = "the key that seals the chats is a file in the folder, not in the operating system's keystore: whoever can read the folder can read the chats"

// Status is how a device stands.
type Status struct {
	Enrolled       bool   `json:"enrolled"`
	Coordinator    string `json:"coordinator,omitempty"` // HOST:PORT
	Device         string `json:"device,omitempty"`      // its id, hexadecimal
	Participation  bool   `json:"participation"`         // false when switched off on this device
	Task           string `json:"task,omitempty"`        // of the checkpoint in use
	Round          uint64 `json:"round"`                 // rounds the checkpoint has been through
	Checkpoint     string `json:"checkpoint,omitempty"`  // its SHA-256, hexadecimal
	Intents        int    `json:"intents,omitempty"`     // that the checkpoint tells apart
	Personal       string `json:"personal,omitempty"`    // how the personal part stands, where the task wants one
	Chats          int    `json:"chats"`                 // held in the folder
	RoundsCounted  uint64 `json:"rounds_counted"`        // of the task, in whose sum this device was
	Sums           string `json:"sums,omitempty"`        // what noise in the task's sums promises, or that there is none; empty before the coordinator told
	Waiting        string `json:"waiting,omitempty"`     // until when and why, where the coordinator told it to come back later
	LastError      string `json:"last_error,omitempty"`  // of the last attempt to take part; empty after a good one
	Warning        string `json:"warning,omitempty"`     // about how the folder is protected
	MinCohort      int    `json:"min_cohort,omitempty"`  // these four are the device's own bounds: see Bounds
	MinSurvivors   int    `json:"min_survivors,omitempty"`
	MinCorrupt     int    `json:"min_corrupt,omitempty"`
	AllowClassical bool   `json:"allow_classical"`
	// MaxEpsilon is another of them; 0 is none.
	MaxEpsilon float64 `json:"max_epsilon,omitempty"`
}

// Status returns how the device stands.
func (c *Client) Status() (Status, error) {
	b := c.options.Bounds
	s := Status{
		Warning: keyWarning, MinCohort: b.MinCohort, MinSurvivors: b.MinSurvivors,
		MinCorrupt: b.MinCorrupt, AllowClassical: b.AllowClassical, MaxEpsilon: b.MaxEpsilon,
	}
	if e := c.enrolled(); e != nil {
		s.Enrolled, s.Coordinator, s.Device = true, e.Address, e.device.String()
	}
	if m := c.model.Load(); m != nil {
		s.Task, s.Round, s.Intents = m.checkpoint.Manifest.Task, m.checkpoint.Manifest.Round, len(m.checkpoint.Manifest.Labels)
		s.Checkpoint, s.Personal = hex.EncodeToString(m.sum[:]), m.personalText()
	}
	c.mu.Lock()
	s.Waiting = c.later
	state := c.task
	c.mu.Unlock()
	var err error
	if s.Chats, err = c.store.Count(); err != nil {
		return s, fmt.Errorf("client: %w", err)
	}
	if s.Participation, err = c.participation(); err != nil {
		return s, fmt.Errorf("client: %w", err)
	}
	l, err := c.readLedger(s.Task)
	if err != nil {
		return s, err
	}
	s.RoundsCounted = l.Counted
	if state != nil && (s.Task == "" || state.GetTask() == s.Task) {
		s.Sums = l.sumsText(state.GetPrivacy())
	}
	if _, err = c.readRecord(errorRecord, &s.LastError); err != nil {
		return s, fmt.Errorf("client: %w", err)
	}
	return s, nil
}

// SetParticipation switches taking part on or off; it is on at first. The choice
// is on disk when SetParticipation returns nil. Switching off leaves an attempt in
// progress at once, and the device goes on classifying with newer checkpoints, as they
// are: its personal part is removed.
func (c *Client) SetParticipation(on bool) error {
	c.mu.Lock()
	err := c.writeRecord(participationRecord, on)
	if leave := c.leave; err == nil && !on && leave != nil {
		leave(ErrDeclined)
	}
	c.mu.Unlock()
	if err == nil && !on {
		err = c.withdraw()
	}
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	c.wake()
	return nil
}

// withdraw removes the personal part, after one that is being made.
func (c *Client) withdraw() error {
	c.shaping.Lock()
	defer c.shaping.Unlock()
	return c.dropPersonal()
}

// participation returns the choice that SetParticipation stored.
func (c *Client) participation() (bool, error) {
	on := true
	_, err := c.readRecord(participationRecord, &on)
	return on, err
}

// note keeps the error of the last attempt to take part, nil for none, for Status.
// That a person has switched participation off is not one.
func (c *Client) note(err error) {
	text, before := "", ""
	if err != nil && !errors.Is(err, ErrDeclined) {
		text = err.Error()
	}
	if _, err := c.readRecord(errorRecord, &before); err == nil && before == text {
		return
	}
	if err := c.writeRecord(errorRecord, text); err != nil {
		c.log.Warn("the last error could not be kept for the status", "error", err)
	}
}
