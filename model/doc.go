// Package model turns a chat message into intents: text to features (Tokeniser), features to scores
// (Classifier), and parameters to bytes and back (Checkpoint).
//
// A model is an embedding bag and a linear layer. The message is cut into words, pairs of them and of their
// stems, and short letter sequences, each hashed to a row of an embedding table; the rows' sum, divided by the
// root of their number, goes through an affine layer and a softmax. All its parameters are one flat []float32
// whose order a Layout gives, so that an update is a difference of two vectors and nothing else.
//
// Everything here gives the same bits on every platform: two devices of different make that start from the same
// checkpoint and the same examples arrive at the same parameters. Package kernel says how.
//
// The package knows no network, rounds, disks or clock. Training is package model/train, kept apart because it
// links gorgonia, which a device that only classifies does not need.
//
// Begin with NewCheckpoint and NewClassifier:
//
//	classifier := model.NewClassifier(checkpoint)
//	for _, intent := range classifier.Top(classifier.Featurise("where is my parcel?"), 3) {
//		fmt.Println(intent.Label, intent.Confidence)
//	}
package model
