package dataset

import "encoding/json"

// parseSplits reads CLINC150's JSON. train is empty and test is nil where the
// object has none.
func parseSplits(f file) (train, test *part, err error) {
	r := newJSONReader(f)
	if err := r.open('{', "an object"); err != nil {
		return nil, nil, err
	}
	for r.More() {
		line := r.line()
		key, err := r.Token()
		if err != nil {
			return nil, nil, r.broken(line, err)
		}
		into := &train
		switch key {
		case "train":
		case "test":
			into = &test
		default:
			var passed json.RawMessage
			if err := r.value(r.line(), &passed, ""); err != nil {
				return nil, nil, err
			}
			continue
		}
		if *into != nil {
			return nil, nil, f.errorf(line, "got the key %q twice; keep one", key)
		}
		*into = newPart(f)
		if err := parsePairs(r, *into); err != nil {
			return nil, nil, err
		}
	}
	if err := r.close(); err != nil {
		return nil, nil, err
	}
	if err := r.end(); err != nil {
		return nil, nil, err
	}
	if train == nil && test == nil {
		return nil, nil, f.errorf(1, "got a JSON object without train, want %s under it", pairs)
	}
	if train == nil {
		train = newPart(f)
	}
	return train, test, nil
}

const pairs = `a list of ["text", "intent"] pairs`

// parsePairs reads one list of ["text", "intent"] pairs into p.
func parsePairs(r *jsonReader, p *part) error {
	if err := r.open('[', pairs); err != nil {
		return err
	}
	for r.More() {
		line := r.line()
		var pair []string
		if err := r.value(line, &pair, pairs); err != nil {
			return err
		}
		if len(pair) != 2 {
			return p.errorf(line, "got %d strings, want %s", len(pair), pairs)
		}
		if err := p.add(line, pair[0], pair[1], ""); err != nil {
			return err
		}
	}
	return r.close()
}
