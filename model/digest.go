package model

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync"
)

// probes are texts whose features differ between tokenisers that differ: ASCII and its cutting, folding that
// grows or composes, compatibility forms, scripts with and without spaces, joined emoji, broken UTF-8, and letters
// that came with Unicode 15 to 17, whose tables change with the Go release a program is built with.
var probes = []string{
	"",
	"Where is my parcel? It's 3 days late!!",
	"I'd like to transfer $1,250.00 from my savings-account to 'checking' e-mail: a_b@example.org",
	"STRASSE Straße ﬁne İstanbul ısı ΌΔΥΣΣΕΎΣ ᾳ ǅ ẞ ŉ",
	"ｆｕｌｌｗｉｄｔｈ ①② ㎏ ﷺ Å Å e\u0301 é",
	"привет, где моя посылка? გამარჯობა",
	"我的包裹在哪里 荷物はどこですか カタカナ 제 소포는 어디에 있나요",
	"สวัสดีพัสดุของฉันอยู่ที่ไหน أين طردي؟ नमस्ते मेरा पार्सल कहाँ है",
	"👩‍👩‍👧‍👦 👍🏽 🇩🇪 ok\u200d \u00ad x\u00ady",
	"broken \xff\xfe utf8 \xe2\x82 end\x80",
	"\U00010D50\U00010D51 \U0001CCD6\U0001CCD7 \uA7CE\uA7D2\uA7DC \U00016EA0 \U0001E4D0 \U00011F04",
	strings.Repeat("a", MaxTextBytes-1) + "é",
	strings.Repeat("ﷺ ", MaxTextBytes/4),
}

// Digest is the SHA-256, in hex, over the features of fixed probe texts, as this build computes them: for each
// probe the number of features and then the features, all little-endian 32-bit. It tells apart builds whose Unicode
// tables differ.
func (t Tokeniser) Digest() string {
	t.check()
	return digests[t]()
}

// digests are by version.
var digests = [LatestTokeniser + 1]func() string{
	Tokeniser1: sync.OnceValue(Tokeniser1.digest),
	Tokeniser2: sync.OnceValue(Tokeniser2.digest),
}

func (t Tokeniser) digest() string {
	var data []byte
	for _, probe := range probes {
		features := t.Featurise(probe)
		data = binary.LittleEndian.AppendUint32(data, uint32(len(features)))
		for _, f := range features {
			data = binary.LittleEndian.AppendUint32(data, f)
		}
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
