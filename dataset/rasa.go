package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// entity is Rasa's annotation of a part of a phrase: [text](entity),
// [text](entity:value), [text]{"entity": …} or [text][{…}, {…}].
var entity = regexp.MustCompile(`\[([^\]]+)\](?:\([^()]+\)|\{[^{}]+\}|\[\{.*?\}\])`)

// parseRasa reads nlu.yml. Entries other than intents (lookup, synonym, regex)
// say nothing about what a phrase means and are passed over.
func parseRasa(f file) (*part, error) {
	if len(f.data) > maxYAMLBytes {
		return nil, f.errorf(1, "got %d bytes of YAML, want at most %d; split the file or convert it to CSV", len(f.data), maxYAMLBytes)
	}
	var document, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(f.data))
	if err := d.Decode(&document); err != nil {
		return nil, fmt.Errorf("%s: cannot be read as YAML: %w", f.name, err)
	}
	if err := d.Decode(&more); err == nil {
		return nil, f.errorf(more.Line, "got a second YAML document, want one nlu list in the file; put them in files of their own")
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: cannot be read as YAML: %w", f.name, err)
	}
	if len(document.Content) == 0 {
		return nil, f.errorf(1, "got an empty YAML document, want Rasa's training data")
	}
	root := document.Content[0]
	nlu, _ := child(root, "nlu")
	if nlu == nil {
		return nil, f.errorf(root.Line, "got YAML without the key nlu, want Rasa's training data (nlu: with a list of intents and examples)")
	}
	if nlu.Kind != yaml.SequenceNode {
		return nil, f.errorf(nlu.Line, "got nlu that is no list, want a list of intents with examples")
	}
	p := newPart(f)
	for _, entry := range nlu.Content {
		if err := parseEntry(p, entry); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// child gives the value of a mapping's key and the key's line, nil where it is
// missing or n is no mapping.
func child(n *yaml.Node, key string) (*yaml.Node, int) {
	if n.Kind != yaml.MappingNode {
		return nil, 0
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1], n.Content[i].Line
		}
	}
	return nil, 0
}

// parseEntry reads one entry of the nlu list.
func parseEntry(p *part, entry *yaml.Node) error {
	name, line := child(entry, "intent")
	if name == nil {
		for _, other := range []string{"lookup", "synonym", "regex"} {
			if n, _ := child(entry, other); n != nil {
				return nil
			}
		}
		return p.errorf(entry.Line, "got an entry without intent, lookup, synonym or regex; want intent: and examples:")
	}
	if name.Kind != yaml.ScalarNode {
		return p.errorf(line, "got an intent that is no plain name")
	}
	// Rasa's classifier learns the part before the slash; what stands behind
	// it is for its response selector.
	intent, _, _ := strings.Cut(name.Value, "/")
	if strings.TrimSpace(intent) == "" {
		return p.errorf(line, "got the intent %q, want a name", clip(name.Value))
	}
	examples, _ := child(entry, "examples")
	if examples == nil {
		return p.errorf(line, "got intent %q without examples; want examples: | and one line with a dash for each", clip(intent))
	}
	switch {
	case examples.Kind == yaml.ScalarNode && strings.TrimSpace(examples.Value) == "", examples.Kind == yaml.SequenceNode && len(examples.Content) == 0:
		return p.errorf(examples.Line, "got intent %q with examples: and none below it; write one line with a dash for each, or take the intent out", clip(intent))
	case examples.Kind == yaml.ScalarNode:
		return parseBlock(p, intent, examples)
	case examples.Kind == yaml.SequenceNode:
		return parseExamples(p, intent, examples)
	}
	return p.errorf(examples.Line, "got examples that are neither a block of text nor a list; want examples: | and one line with a dash for each")
}

// parseBlock reads the usual form, a block of text with a dash before each
// example.
func parseBlock(p *part, intent string, block *yaml.Node) error {
	line := block.Line
	if block.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line++ // the text begins below the bar
	}
	for text := range strings.Lines(block.Value) {
		text = strings.TrimSpace(text)
		if text != "" {
			example, ok := strings.CutPrefix(text, "-")
			if !ok {
				return p.errorf(line, "got the example %q of intent %q without a dash before it; want \"- \" and the example on one line", clip(text), clip(intent))
			}
			if err := p.add(line, entity.ReplaceAllString(example, "$1"), intent, ""); err != nil {
				return err
			}
		}
		line++
	}
	return nil
}

// parseExamples reads the long form, a list of examples with text and metadata.
func parseExamples(p *part, intent string, list *yaml.Node) error {
	for _, n := range list.Content {
		text := n
		if n.Kind == yaml.MappingNode {
			text, _ = child(n, "text")
		}
		if text == nil || text.Kind != yaml.ScalarNode {
			return p.errorf(n.Line, "got an example of intent %q without text; want text: and the example", clip(intent))
		}
		if err := p.add(text.Line, entity.ReplaceAllString(text.Value, "$1"), intent, ""); err != nil {
			return err
		}
	}
	return nil
}
