// go-spiffe at writ's Workload API; see ../spiffe.py for what it prints.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const audience = "interop"

var printing sync.Mutex

func say(event map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	json.NewEncoder(os.Stdout).Encode(event)
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	svid := c.DefaultSVID()
	if _, _, err := x509svid.Verify(svid.Certificates, c.Bundles); err != nil {
		os.Stderr.WriteString("not verified: " + err.Error() + "\n")
		return
	}
	var chain, roots []string
	for _, one := range svid.Certificates {
		chain = append(chain, hex.EncodeToString(one.Raw))
	}
	bundle, err := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return
	}
	for _, one := range bundle.X509Authorities() {
		roots = append(roots, hex.EncodeToString(one.Raw))
	}
	say(map[string]any{"event": "x509", "id": svid.ID.String(), "chain": chain, "roots": roots})
}

func (watcher) OnX509ContextWatchError(err error) {
	os.Stderr.WriteString("watch: " + err.Error() + "\n")
}

func jwt(client *workloadapi.Client) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	svid, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return nil, err
	}
	if _, err = client.ValidateJWTSVID(ctx, svid.Marshal(), audience); err != nil {
		return nil, err
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return nil, err
	}
	if _, err = jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{audience}); err != nil {
		return nil, err
	}
	bundle, err := bundles.GetJWTBundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return nil, err
	}
	event := map[string]any{"event": "jwt", "id": svid.ID.String()}
	for kid, key := range bundle.JWTAuthorities() {
		one := bundle.Clone()
		one.SetJWTAuthorities(nil)
		one.AddJWTAuthority(kid, key)
		if _, err = jwtsvid.ParseAndValidate(svid.Marshal(), one, []string{audience}); err == nil {
			event["kid"] = kid
		}
	}
	return event, nil
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(os.Args[1]))
	if err != nil {
		panic(err)
	}
	go client.WatchX509Context(ctx, watcher{})
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		event, err := jwt(client)
		if err != nil {
			event = map[string]any{"event": "jwt", "error": err.Error()}
		}
		say(event)
	}
}
