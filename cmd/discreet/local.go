package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/client/agent"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
)

// device is what the local commands need of a device: the agent that runs on its
// folder, or the folder itself.
type device interface {
	Classify(ctx context.Context, text string, n int) (client.Answer, error)
	Explain(ctx context.Context, text string) (client.Explanation, error)
	Learn(ctx context.Context, chat client.Chat) error
	Status(ctx context.Context) (client.Status, error)
	Privacy(ctx context.Context) ([]client.Given, error)
	Forget(ctx context.Context, conversation string) (int, error)
	ForgetAll(ctx context.Context) (int, error)
	SetParticipation(ctx context.Context, on bool) error
}

// folder is a device whose folder this process has open.
type folder struct{ c *client.Client }

func (f folder) Classify(_ context.Context, text string, n int) (client.Answer, error) {
	return f.c.Classify(text, n)
}
func (f folder) Explain(_ context.Context, text string) (client.Explanation, error) {
	return f.c.Explain(text)
}
func (f folder) Learn(_ context.Context, chat client.Chat) error   { return f.c.Learn(chat) }
func (f folder) Status(context.Context) (client.Status, error)     { return f.c.Status() }
func (f folder) Privacy(context.Context) ([]client.Given, error)   { return f.c.Privacy() }
func (f folder) Forget(_ context.Context, who string) (int, error) { return f.c.Forget(who) }
func (f folder) ForgetAll(context.Context) (int, error)            { return f.c.ForgetAll() }
func (f folder) SetParticipation(_ context.Context, on bool) error { return f.c.SetParticipation(on) }

// withDevice asks the agent that runs on a folder or, where none does, opens the
// folder. A folder that something else has locked is an error, never a wait.
func withDevice(ctx context.Context, dir string, do func(device) error) error {
	caller, err := agent.Dial(ctx, dir)
	if err == nil {
		defer caller.Close()
		return do(caller)
	}
	if !errors.Is(err, agent.ErrNoAgent) {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("no device here: %w\nname its folder with --dir, or make one with %q", err, "discreet agent join HOST:PORT TOKEN")
	}
	opened, err := openDevice(dir, client.Options{})
	if err != nil {
		return err
	}
	return errors.Join(do(folder{opened}), opened.Close())
}

// openDevice opens a device's folder.
func openDevice(dir string, o client.Options) (*client.Client, error) {
	if err := otherFolder(dir, "log.pem", "a coordinator's", "a device's"); err != nil {
		return nil, err
	}
	return client.Open(dir, o)
}

// otherFolder refuses a folder of the other end, which a file tells: both have a discreet.db, and
// each would call the other's damaged.
func otherFolder(dir, sign, is, want string) error {
	if found, err := filepath.Glob(filepath.Join(dir, sign)); err == nil && len(found) > 0 {
		return usagef("%s is %s folder, as it has %s; name %s with --dir", dir, is, filepath.Base(found[0]), want)
	}
	return nil
}

func newClassify() *cobra.Command {
	var (
		dir, checkpoint string
		top             int
		asJSON, why     bool
	)
	c := &cobra.Command{
		Use: "classify TEXT", GroupID: "device",
		Short: "Say what a text means",
		Long: `Classify asks the agent that runs on the device's folder; where none runs it opens the
folder, and with --checkpoint it needs neither. The text is not kept. Of a text that is
likely to have none of the task's intents it says "unknown" before the nearest ones, as
soon as enough chats were held back to tell. With --explain it
says instead which words, and which parts of words, made the answer come before the
next-best one, by the odds that the model itself gives them: the confidences beside
them are calibrated, once they can be.`,
		Example: `  discreet classify "where is my parcel"
  discreet classify --explain "where is my parcel"`,
		Args: arguments("TEXT"),
		RunE: func(c *cobra.Command, args []string) error {
			if top < 1 {
				return usagef("--top %d, want at least 1", top)
			}
			if why && c.Flags().Changed("top") {
				return usagef("--top beside --explain, which is about the answer and the one after it")
			}
			if why {
				return explain(c, dir, checkpoint, args[0], asJSON)
			}
			var answer client.Answer
			ask := func(d device) (err error) {
				answer, err = d.Classify(c.Context(), args[0], top)
				return err
			}
			var err error
			if checkpoint != "" {
				answer, err = classifyWith(checkpoint, args[0], top)
			} else {
				err = withDevice(c.Context(), dir, ask)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), answer)
			}
			printAnswer(c.OutOrStdout(), answer)
			return nil
		},
	}
	dirFlag(c, &dir)
	c.Flags().StringVar(&checkpoint, "checkpoint", "", "use this checkpoint file instead of a device")
	c.Flags().IntVar(&top, "top", 3, "how many intents to show")
	c.Flags().BoolVar(&why, "explain", false, "say what in the text drove the answer")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// classifyWith classifies with a checkpoint file.
func classifyWith(path, text string, top int) (client.Answer, error) {
	checkpoint, _, err := readCheckpoint(path)
	if err != nil {
		return client.Answer{}, fmt.Errorf("--checkpoint: %w", err)
	}
	if strings.TrimSpace(text) == "" {
		return client.Answer{}, errors.New("the text is empty")
	}
	return client.ClassifyWith(model.NewClassifier(checkpoint), text, top), nil
}

// printAnswer lists the most probable intents; of a text that is likely to have none of
// them it says so first.
func printAnswer(w io.Writer, a client.Answer) {
	var rows [][2]string
	if a.Unknown {
		fmt.Fprintln(w, "unknown; the nearest are")
	}
	for _, g := range a.Intents {
		rows = append(rows, [2]string{g.Intent, percent(float64(g.Confidence))})
	}
	table(w, rows)
	if a.Model == client.Personal {
		fmt.Fprintln(w, "(by this device's personal model)")
	}
}

func newLearn() *cobra.Command {
	var dir, intent, signal, conversation, file string
	c := &cobra.Command{
		Use: "learn [TEXT --intent INTENT | --file FILE]", GroupID: "device",
		Short: "Give the device a chat whose intent is known, or a file of them",
		Long: `Learn keeps a chat in the device's folder as an example for the rounds to come. FILE is
CSV, JSON lines or Rasa's nlu.yml. The text never leaves the folder.

SIGNAL, or the file's column signal, says how the intent is known: confirmed (the bot's
answer was right), corrected (somebody chose it), rejected (the text does not have this
intent), rephrased (confirmed for what the person said next) or handed_over (a person
who took over chose it; without an intent it is none of the task's, and not trained on).`,
		Example: `  discreet learn "wheres my stuff" --intent order_status
  discreet learn "cancel it" --intent refund --signal rejected
  discreet learn --file chats.csv`,
		Args: atMostOne("TEXT"),
		RunE: func(c *cobra.Command, args []string) error {
			var chats []client.Chat
			switch {
			case file != "" && len(args) == 0 && intent == "" && signal == "":
				var err error
				if chats, err = readChats(file, conversation); err != nil {
					return err
				}
			case file == "" && len(args) == 1 && (intent != "" || client.Signal(signal) == client.HandedOver):
				chats = []client.Chat{{Text: args[0], Intent: intent, Signal: client.Signal(signal), Conversation: conversation}}
			default:
				return usagef("give a TEXT with its --intent, or a --file")
			}
			return withDevice(c.Context(), dir, func(d device) error { return learn(c.Context(), c.OutOrStdout(), d, chats) })
		},
	}
	dirFlag(c, &dir)
	c.Flags().StringVar(&intent, "intent", "", "what the text meant")
	c.Flags().StringVar(&signal, "signal", "", "how the intent is known (default confirmed)")
	c.Flags().StringVar(&file, "file", "", "file of chats with their intents")
	c.Flags().StringVar(&conversation, "conversation", "", "name under which the chats can be forgotten")
	return c
}

// readChats reads a file of phrases as chats. Each user of the file is a
// conversation unless one is named.
func readChats(path, conversation string) ([]client.Chat, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	defer file.Close()
	phrases, err := dataset.ReadChats(path, file)
	if err != nil {
		return nil, err
	}
	chats := make([]client.Chat, len(phrases))
	for i, p := range phrases {
		chats[i] = client.Chat{Text: p.Text, Intent: p.Intent, Signal: client.Signal(p.Signal), Conversation: p.User}
		if conversation != "" {
			chats[i].Conversation = conversation
		}
	}
	return chats, nil
}

// learn hands chats over one by one and says how many were kept.
func learn(ctx context.Context, w io.Writer, d device, chats []client.Chat) error {
	for i, chat := range chats {
		if err := d.Learn(ctx, chat); err != nil {
			if len(chats) == 1 {
				return err
			}
			return fmt.Errorf("chat %d of %d (those before it are kept): %w", i+1, len(chats), err)
		}
	}
	fmt.Fprintf(w, "learned %s\n", count(len(chats), "chat"))
	return nil
}
