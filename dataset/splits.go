package dataset

import "encoding/json"

// parseSplits reads CLINC150's JSON. train is empty and test is nil where the
// object has none.
func parseSplits(f file) (train, test *part, err error) {
	r := newJSONReader(f)
	if err := r.open('{', "an object"); err != nil {
		return nil, nil, err
	}
	lists := map[string]*part{"train": nil, "test": nil, "oos_train": nil, "oos_val": nil, "oos_test": nil}
	for r.More() {
		line := r.line()
		token, err := r.Token()
		if err != nil {
			return nil, nil, r.broken(line, err)
		}
		key, _ := token.(string)
		before, read := lists[key]
		switch {
		case !read:
			var passed json.RawMessage
			if err := r.value(r.line(), &passed, ""); err != nil {
				return nil, nil, err
			}
			continue
		case before != nil:
			return nil, nil, f.errorf(line, "got the key %q twice; keep one", key)
		}
		lists[key] = newPart(f)
		if err := parsePairs(r, lists[key]); err != nil {
			return nil, nil, err
		}
	}
	if err := r.close(); err != nil {
		return nil, nil, err
	}
	if err := r.end(); err != nil {
		return nil, nil, err
	}
	train, test = lists["train"], lists["test"]
	if train == nil && test == nil {
		return nil, nil, f.errorf(1, "got a JSON object without train, want %s under it", pairs)
	}
	if train == nil {
		train = newPart(f)
	}
	train.outside = append(texts(lists["oos_train"]), texts(lists["oos_val"])...)
	if test != nil {
		test.outside = texts(lists["oos_test"])
	}
	return train, test, nil
}

// texts are a list's, without what it says that they mean; nil is an empty list.
func texts(p *part) (texts []string) {
	if p == nil {
		return nil
	}
	for _, phrase := range p.phrases {
		texts = append(texts, phrase.Text)
	}
	return texts
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
