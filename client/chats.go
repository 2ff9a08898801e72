package client

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/discreet-fl/discreet/client/store"
	"github.com/discreet-fl/discreet/model"
)

var (
	// ErrNoModel is returned by Classify before the first checkpoint has arrived.
	ErrNoModel = errors.New("there is no checkpoint yet: enrol this device and let it reach its coordinator once; its status says what went wrong")
	// ErrUnknownIntent is returned by Learn for an intent that the task does not have.
	ErrUnknownIntent = errors.New("unknown intent")
	// ErrText is returned for a text that cannot be classified or learned from.
	ErrText = errors.New("text refused")
)

// MaxConversationBytes bounds the name of a conversation.
const MaxConversationBytes = 256

// Guess is one intent a text may have.
type Guess struct {
	Intent     string  `json:"intent"`
	Confidence float32 `json:"confidence"` // 0 to 1: how sure the model is, as calibrated
}

// Answer is what a model makes of a text.
type Answer struct {
	// Unknown tells that the text is likely to be of none of the intents: answer nothing, or
	// let the person choose among Intents, the next-best.
	Unknown bool    `json:"unknown"`
	Intents []Guess `json:"intents"` // the most probable first
	Model   string  `json:"model"`   // which answered: Shared or Personal
}

// Chat is a text and what is known of its intent.
type Chat struct {
	Text   string
	Intent string // what the text means, or with Rejected what it does not mean
	Signal Signal // how that is known; "" is Confirmed
	// Conversation, where set, names the conversation or the person, at most
	// MaxConversationBytes, so that Forget can forget them. It never leaves the device.
	Conversation string
}

// Classify returns the n most probable intents of a text, and whether it is likely to
// have none of them, where the checkpoint has a threshold for that. Where the task wants
// one, it is this device's own model that answers, if that names the device's held-back
// chats better; whether a text has none of the intents, the shared model always tells,
// since its threshold is. It works without a connection. A text longer than
// [model.MaxTextBytes] is cut.
func (c *Client) Classify(text string, n int) (Answer, error) {
	if n < 1 {
		return Answer{}, fmt.Errorf("client: the %d most probable intents, want at least 1", n)
	}
	if strings.TrimSpace(text) == "" {
		return Answer{}, fmt.Errorf("client: %w: it is empty", ErrText)
	}
	m := c.model.Load()
	if m == nil {
		return Answer{}, fmt.Errorf("client: %w", ErrNoModel)
	}
	classifier, which, done := m.answering()
	defer done()
	a := ClassifyWith(classifier, text, n)
	if a.Model = which; which == Personal {
		a.Unknown = m.unknown(text)
	}
	return a, nil
}

// unknown tells whether a text has none of the intents by the shared model, whose the
// threshold is.
func (m *loadedModel) unknown(text string) bool {
	shared := m.classifiers.Get().(*model.Classifier)
	defer m.classifiers.Put(shared)
	return ClassifyWith(shared, text, 1).Unknown
}

// ClassifyWith is [Client.Classify] with the classifier of a checkpoint, which needs no
// device; n is 1 or more.
func ClassifyWith(classifier *model.Classifier, text string, n int) Answer {
	top := classifier.Top(classifier.Featurise(text), n)
	a := Answer{Model: Shared, Unknown: !classifier.Knows(top[0].Score), Intents: make([]Guess, len(top))}
	for i, t := range top {
		a.Intents[i] = Guess{Intent: t.Label, Confidence: t.Confidence}
	}
	return a
}

// Learn keeps chats as examples for the rounds to come, all of them or, with an
// error, none; they are on disk, sealed, when Learn returns nil. Where a checkpoint is
// known, an intent must be one of its labels, or an old name of one. The folder keeps [MaxChats] chats, the
// oldest leave first.
func (c *Client) Learn(chats ...Chat) error {
	kept := make([]store.Chat, len(chats))
	for i, chat := range chats {
		if err := c.checkChat(chat); err != nil && len(chats) > 1 {
			return fmt.Errorf("chat %d of %d, of which none is kept: %w", i+1, len(chats), err)
		} else if err != nil {
			return err
		}
		kept[i] = store.Chat{Text: chat.Text, Intent: chat.Intent, Signal: string(chat.Signal.filled()), Conversation: chat.Conversation}
	}
	if err := c.store.Add(kept...); err != nil {
		return fmt.Errorf("client: learning: %w", err)
	}
	return nil
}

func (c *Client) checkChat(chat Chat) error {
	switch {
	case strings.TrimSpace(chat.Text) == "":
		return fmt.Errorf("%w: it is empty", ErrText)
	case len(chat.Text) > model.MaxTextBytes:
		return fmt.Errorf("%w: it has %d bytes, want at most %d; shorten it to what shows the intent", ErrText, len(chat.Text), model.MaxTextBytes)
	case !utf8.ValidString(chat.Text) || !utf8.ValidString(chat.Intent) || !utf8.ValidString(chat.Conversation):
		return fmt.Errorf("%w: it is not UTF-8", ErrText)
	case chat.Signal.check() != nil:
		return chat.Signal.check()
	case chat.Signal == HandedOver && chat.Intent == "":
		return checkConversation(chat)
	case chat.Intent == "":
		return fmt.Errorf("%w: none is named; name the one that the text has, or give the signal %s where it has none of the task's", ErrUnknownIntent, HandedOver)
	case len(chat.Intent) > model.MaxLabelBytes:
		return fmt.Errorf("%w: a name of %d bytes, want at most %d", ErrUnknownIntent, len(chat.Intent), model.MaxLabelBytes)
	}
	if err := checkConversation(chat); err != nil {
		return err
	}
	m := c.model.Load()
	if m == nil {
		return nil // the task's intents are not known yet
	}
	if _, known := m.index[chat.Intent]; known {
		return nil
	}
	return fmt.Errorf("%w: %q is not among the %d of task %q; the nearest is %q; one that was added a moment ago comes with the next checkpoint", ErrUnknownIntent,
		chat.Intent, len(m.checkpoint.Manifest.Labels), m.checkpoint.Manifest.Task, model.Nearest(chat.Intent, m.checkpoint.Manifest.Labels))
}

func checkConversation(chat Chat) error {
	if len(chat.Conversation) > MaxConversationBytes {
		return fmt.Errorf("the conversation's name has %d bytes, want at most %d", len(chat.Conversation), MaxConversationBytes)
	}
	return nil
}

// errForgotten ends an attempt during which chats were forgotten.
var errForgotten = errors.New("chats were forgotten while this device was taking part; it takes part again without them")

// Forget removes every chat of a conversation for good and returns how many there
// were; chats without a conversation have the name "". See [store.Store.Forget] for
// what "for good" means. An update that was already sent, masked, in an earlier round
// is part of a sum over many devices and cannot be taken back; one that is being made
// is given up, and this device leaves the attempt. The device's personal
// part, which was made from these chats among others, goes with them; it is made anew
// from the others when the device next asks for tasks.
func (c *Client) Forget(conversation string) (int, error) {
	return c.forget(func() (int, error) { return c.store.Forget(conversation) })
}

// ForgetAll removes every chat for good, and the personal part. The device stays enrolled.
func (c *Client) ForgetAll() (int, error) { return c.forget(c.store.ForgetAll) }

func (c *Client) forget(chats func() (int, error)) (int, error) {
	c.shaping.Lock() // or a personal part that is being made would come back
	defer c.shaping.Unlock()
	n, err := chats()
	c.mu.Lock()
	if leave := c.leave; n > 0 && leave != nil {
		leave(errForgotten) // what it trained on may be among them
	}
	c.mu.Unlock()
	if m := c.model.Load(); m != nil {
		m.personal.Store(nil)
	}
	if err != nil {
		return n, fmt.Errorf("client: %w", err)
	}
	return n, nil
}

// examples turns the folder's chats into examples for a model. A chat with an old name
// of an intent is one of what that intent is called now; chats whose intent the model
// does not have, or no longer, are left out, and so are those handed over without one.
func (c *Client) examples(m *model.Manifest) ([]model.Example, error) {
	chats, err := c.store.Chats()
	if err != nil {
		return nil, err
	}
	index := m.Index()
	examples := make([]model.Example, 0, len(chats))
	for _, chat := range chats {
		if label, known := index[chat.Intent]; known {
			examples = append(examples, Signal(chat.Signal).Example(m.TokeniserVersion.Featurise(chat.Text), label))
		}
	}
	return examples, nil
}
