// Plays many agents: each has its own workspace and token, and reports over TLS. For bench/cluster.
//
//	agents -urls URL[,URL] -ca FILE -agents N [-team N] [-connections N] [-period 30s | -beats N]
//
// With -beats: N beats in all, one after the other on each of the kept connections, each of which goes through its share of the agents.
// With -period: each agent has a connection of its own and reports once a period, from a moment of its own; until stdin ends.
// Prints "ready" when every agent was heard once, and at the end one line of JSON: what was sent, how it was answered, and the longest time that an
// agent was not heard.
package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type agent struct {
	number   int
	sequence int
	tag      string
	heard    time.Time
	longest  time.Duration
}

func (a *agent) name() string { return fmt.Sprintf("ws-%05d", a.number) }

func (a *agent) token() string {
	sum := sha256.Sum256([]byte("token of " + a.name()))
	return hex.EncodeToString(sum[:])
}

func (a *agent) body() string {
	a.sequence++
	id := fmt.Sprintf("%08x-0000-4000-8000-000000000000", a.number)
	return fmt.Sprintf(`{"workspace":"team-%d.%s","bootID":"%s","sequence":%d,"time":"%s","agentVersion":"0.1.0","runtime":"sample","activeTasks":%d,`+
		`"currentTask":"issue %d: read the report","errorRate":0.01,"uptimeSeconds":%d,"monthlySpend":12.%02d,"managementPresent":true,"modelPresent":true,`+
		`"loadedTools":["search","notes","browser"],"inventoryDigest":"sha256:%064x","answerTag":"%s"}`,
		a.number / *team, a.name(), id, a.sequence, time.Now().UTC().Format(time.RFC3339), a.sequence%2, a.sequence%1000, a.sequence%1_000_000, a.sequence%100, a.number, a.tag)
}

type link struct {
	urls  []string
	which int
	tls   *tls.Config
	conn  net.Conn
	in    *bufio.Reader
}

var team = flag.Int("team", 50, "agents of a namespace")

var (
	sent, accepted, unchanged, failed atomic.Int64
	codes                             sync.Map
)

func (l *link) drop() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

func (l *link) open() error {
	if l.conn != nil {
		return nil
	}
	at, err := url.Parse(l.urls[l.which%len(l.urls)])
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: 20 * time.Second}
	if at.Scheme == "https" {
		l.conn, err = tls.DialWithDialer(&dialer, "tcp", at.Host, l.tls)
	} else {
		l.conn, err = dialer.Dial("tcp", at.Host)
	}
	if err != nil {
		l.conn = nil
		return err
	}
	l.in = bufio.NewReaderSize(l.conn, 1024)
	return nil
}

// One beat; the wait before the next attempt if it was not accepted.
func (l *link) beat(a *agent) (bool, time.Duration) {
	reused := l.conn != nil
	if err := l.open(); err != nil {
		failed.Add(1)
		l.which++
		return false, time.Second
	}
	body := a.body()
	sent.Add(1)
	l.conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err := fmt.Fprintf(l.conn, "POST /registry/heartbeat HTTP/1.1\r\nHost: operator\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		a.token(), len(body), body)
	var response *http.Response
	if err == nil {
		response, err = http.ReadResponse(l.in, nil)
	}
	if err != nil {
		l.drop()
		if reused { // A kept connection that was closed meanwhile: once more on a new one.
			return l.beat(a)
		}
		failed.Add(1)
		l.which++
		return false, time.Second
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || response.Close {
		l.drop()
	}
	if response.StatusCode != 200 {
		count, _ := codes.LoadOrStore(response.StatusCode, new(atomic.Int64))
		count.(*atomic.Int64).Add(1)
		if response.StatusCode == 429 { // Too soon: nothing is wrong with the connection.
			return false, time.Second
		}
		l.drop()
		l.which++
		if response.StatusCode == 409 { // Recorded before the connection broke.
			return true, 0
		}
		return false, time.Second
	}
	var answer struct {
		AnswerTag string `json:"answerTag"`
		Unchanged bool   `json:"unchanged"`
	}
	json.Unmarshal(text, &answer)
	if answer.Unchanged {
		unchanged.Add(1)
	} else {
		a.tag = answer.AnswerTag
	}
	accepted.Add(1)
	now := time.Now()
	if !a.heard.IsZero() {
		a.longest = max(a.longest, now.Sub(a.heard))
	}
	a.heard = now
	return true, 0
}

func main() {
	urls := flag.String("urls", "", "where to report, by commas")
	ca := flag.String("ca", "", "PEM file of the authority")
	count := flag.Int("agents", 100, "agents")
	connections := flag.Int("connections", 64, "kept connections, with -beats")
	period := flag.Duration("period", 0, "of each agent")
	beats := flag.Int("beats", 0, "beats in all")
	flag.Parse()

	config := &tls.Config{ServerName: "localhost"}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			fmt.Fprintln(os.Stderr, "agents:", err)
			os.Exit(1)
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	agents := make([]agent, *count)
	for i := range agents {
		agents[i].number = i
	}
	// A run after another one goes on with higher numbers.
	first := int(time.Now().UnixMilli())
	var running sync.WaitGroup
	var waiting atomic.Int64
	stop := make(chan struct{})
	if *period > 0 {
		waiting.Store(int64(*count))
		for i := range agents {
			running.Add(1)
			go func(a *agent) {
				defer running.Done()
				a.sequence = first
				l := link{urls: strings.Split(*urls, ","), tls: config, which: a.number}
				defer l.drop()
				wait := *period * time.Duration(a.number) / time.Duration(*count)
				heard := false
				for {
					select {
					case <-stop:
						return
					case <-time.After(wait):
					}
					ok, again := l.beat(a)
					wait = *period
					if !ok {
						wait = again
					} else if !heard {
						heard = true
						if waiting.Add(-1) == 0 {
							fmt.Println("ready")
						}
					}
				}
			}(&agents[i])
		}
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	} else {
		each := *count / *connections
		for c := 0; c < *connections; c++ {
			running.Add(1)
			go func(mine []agent) {
				defer running.Done()
				l := link{urls: strings.Split(*urls, ","), tls: config}
				defer l.drop()
				for n, refusals := 0, 0; n < *beats / *connections && refusals < 1000; {
					a := &mine[n%len(mine)]
					if a.sequence == 0 {
						a.sequence = first
					}
					if ok, wait := l.beat(a); ok {
						n++
					} else {
						refusals++
						time.Sleep(wait)
					}
				}
			}(agents[c*each : (c+1)*each])
		}
	}
	running.Wait()
	longest := time.Duration(0)
	for i := range agents {
		longest = max(longest, agents[i].longest)
	}
	refused := map[string]int64{}
	codes.Range(func(code, n any) bool { refused[fmt.Sprint(code)] = n.(*atomic.Int64).Load(); return true })
	json.NewEncoder(os.Stdout).Encode(map[string]any{"sent": sent.Load(), "accepted": accepted.Load(), "unchanged": unchanged.Load(), "failed": failed.Load(),
		"refused": refused, "longestSilence": longest.Seconds()})
}
