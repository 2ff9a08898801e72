package ca

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

// TestDevicesAreCertifiedElsewhere walks the two files: requests out, certificates in.
func TestDevicesAreCertifiedElsewhere(t *testing.T) {
	m, caDir, dir := apart(t)
	a := open(t, dir)
	keys := []ed25519.PublicKey{freshKey(t), freshKey(t), freshKey(t)}
	var requests, issued bytes.Buffer
	if err := WriteRequests(&requests, keys); err != nil {
		t.Fatal(err)
	}
	carried := strings.ReplaceAll(requests.String(), "\n", "\r\n") // by way of a Windows machine
	ids, err := m.IssueDevices(strings.NewReader(carried), &issued, time.Now())
	if err != nil || len(ids) != len(keys) {
		t.Fatalf("%v, %v", ids, err)
	}
	list, roll, err := ReadIssued(&issued)
	if err != nil || len(list) != len(keys) {
		t.Fatalf("%v, %v", list, err)
	}
	if err := roll.Verify(a.PublicKey()); err != nil || len(roll.Keys) != len(keys) {
		t.Errorf("the roll of %d devices: %v", len(roll.Keys), err)
	}
	for i, one := range list {
		if ids[i] != secagg.DeviceID(keys[i]) || !one.PublicKey.Equal(keys[i]) {
			t.Errorf("device %d is %v", i, ids[i])
		}
		if err := a.CheckIssued(one, time.Now()); err != nil {
			t.Error(err)
		}
	}
	if _, err := machine(t, caDir).Revoke(ids[1:2], time.Now()); err != nil {
		t.Fatal(err)
	}
	issued.Reset()
	if _, err := m.IssueDevices(&requests, &issued, time.Now()); err == nil || !strings.Contains(err.Error(), ids[1].String()) || issued.Len() > 0 {
		t.Errorf("a revoked device is certified again: %v, %d bytes", err, issued.Len())
	}
}

func TestNobodyWaits(t *testing.T) {
	m, _, _ := apart(t)
	var requests, issued bytes.Buffer
	if err := WriteRequests(&requests, nil); err != nil {
		t.Fatal(err)
	}
	if ids, err := m.IssueDevices(&requests, &issued, time.Now()); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
	if list, roll, err := ReadIssued(&issued); err != nil || len(list) != 0 || roll != nil {
		t.Errorf("%v, %v, %v", list, roll, err)
	}
}

func TestDeviceFilesAreRefused(t *testing.T) {
	key := freshKey(t)
	line := fmt.Sprintf("%v %x", secagg.DeviceID(key), []byte(key))
	whole := line + " " + strings.Repeat("00", 64) + " AAAA"
	other := fmt.Sprintf("%v %x", secagg.DeviceID(freshKey(t)), []byte(key))
	many := strings.Builder{}
	for range MaxRequests + 1 {
		fresh := freshKey(t)
		fmt.Fprintf(&many, "%v %x\n", secagg.DeviceID(fresh), []byte(fresh))
	}
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":             {"", "begins with"},
		"another format":      {"discreet requests v2\n" + line + "\n", "begins with"},
		"an issued file":      {issuedHeader + "\n", "`discreet device waiting`"},
		"a cut line":          {requestsHeader + "\n" + line[:40] + "\n", "line 2"},
		"an empty line":       {requestsHeader + "\n\n" + line + "\n", "line 2 has 1 fields"},
		"a field too many":    {requestsHeader + "\n" + line + " x\n", "has 3 fields"},
		"a device twice":      {requestsHeader + "\n" + line + "\n" + line + "\n", "line 3: device"},
		"another's id":        {requestsHeader + "\n" + other + "\n", "the line names"},
		"a short id":          {requestsHeader + "\n" + line[2:] + "\n", "32 hexadecimal digits"},
		"a very long line":    {requestsHeader + "\n" + strings.Repeat("a", maxLine+1) + "\n", "line 2 is longer"},
		"no text":             {"\x00\x01\x02\n", "begins with"},
		"devices without end": {requestsHeader + "\n" + many.String(), "more than 10000"},
	} {
		if keys, err := readRequests(strings.NewReader(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d keys, %v; want %q", name, len(keys), err, tc.want)
		}
	}
	for name, tc := range map[string]struct{ text, want string }{
		"requests":                {requestsHeader + "\n", "`discreet ca issue devices`"},
		"no certificate":          {issuedHeader + "\n" + line + " " + strings.Repeat("00", 64) + " \n", "a certificate of 0"},
		"short credential":        {issuedHeader + "\n" + line + " 00 AAAA\n", "a credential of 2"},
		"no base64":               {issuedHeader + "\n" + line + " " + strings.Repeat("00", 64) + " %%%%\n", "in base64"},
		"a roll of nobody":        {issuedHeader + "\nroll " + strings.Repeat("00", 64) + "\n", "line 2: a roll of 0 devices"},
		"a short roll":            {issuedHeader + "\n" + whole + "\nroll 00\n", "a signature of 2 digits"},
		"a line behind the roll":  {issuedHeader + "\n" + whole + "\nroll " + strings.Repeat("00", 64) + "\n" + whole + "\n", "line 4 stands behind the roll"},
		"a file that was cut off": {issuedHeader + "\n" + whole + "\n", "ends with line 2, without its roll: copy the whole file"},
		"a roll in a file of v1":  {issuedHeaderOld + "\n" + whole + "\nroll " + strings.Repeat("00", 64) + "\n", "line 3 has 2 fields"},
		"large certificate":       {issuedHeader + "\n" + line + " " + strings.Repeat("00", 64) + " " + strings.Repeat("AAAA", 1366) + "\n", "at most 4096"},
	} {
		if list, _, err := ReadIssued(strings.NewReader(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d devices, %v; want %q", name, len(list), err, tc.want)
		}
	}
}

// TestIssuedBefore reads a file of the version before, which has no roll.
func TestIssuedBefore(t *testing.T) {
	m, _, dir := apart(t)
	var requests, issued bytes.Buffer
	if err := WriteRequests(&requests, []ed25519.PublicKey{freshKey(t), freshKey(t)}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.IssueDevices(&requests, &issued, time.Now()); err != nil {
		t.Fatal(err)
	}
	text, _, found := strings.Cut(strings.Replace(issued.String(), issuedHeader, issuedHeaderOld, 1), rollWord+" ")
	list, roll, err := ReadIssued(strings.NewReader(text))
	if err != nil || len(list) != 2 || roll != nil || !found {
		t.Fatalf("%d devices, roll %v, %v", len(list), roll, err)
	}
	if err := open(t, dir).CheckIssued(list[1], time.Now()); err != nil {
		t.Error(err)
	}
}

func FuzzReadIssued(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	var text bytes.Buffer
	if err := writeIssued(&text, []Issued{{key, []byte("certificate"), make([]byte, 64)}}, &secagg.Roll{Signature: make([]byte, 64)}); err != nil {
		f.Fatal(err)
	}
	whole := text.String()
	f.Add([]byte(whole))
	cut, _, _ := strings.Cut(whole, rollWord+" ")
	f.Add([]byte(cut))
	f.Add([]byte(strings.Replace(cut, issuedHeader, issuedHeaderOld, 1)))
	f.Add([]byte(issuedHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, roll, err := ReadIssued(bytes.NewReader(b))
		if err != nil {
			return
		}
		if old := strings.HasPrefix(string(b), issuedHeaderOld); (roll == nil) != (old || len(list) == 0) {
			t.Fatalf("%q is read as %d devices with the roll %v", b, len(list), roll)
		}
		if roll == nil {
			roll = &secagg.Roll{Signature: make([]byte, 64)} // what is written has one
		}
		if len(list) == 0 {
			roll = nil
		}
		var again bytes.Buffer
		if err := writeIssued(&again, list, roll); err != nil {
			t.Fatal(err)
		}
		if same, rolled, err := ReadIssued(&again); err != nil || len(same) != len(list) || (rolled == nil) != (roll == nil) {
			t.Errorf("%q is read as %d devices, and then %d, %v", b, len(list), len(same), err)
		}
	})
}

func FuzzReadRequests(f *testing.F) {
	var text bytes.Buffer
	if err := WriteRequests(&text, []ed25519.PublicKey{ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)}); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := readRequests(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteRequests(&again, keys); err != nil {
			t.Fatal(err)
		}
		if same, err := readRequests(&again); err != nil || len(same) != len(keys) {
			t.Errorf("%q is read as %d devices, and then %d, %v", b, len(keys), len(same), err)
		}
	})
}
