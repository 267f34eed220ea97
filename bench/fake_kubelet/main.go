// Plays the kubelet of one node for kube-apiserver's pods/exec, with the kubelet's own streaming code: every Pod has the plugins of -plugins on
// its volume, put there by its image, and an agent's helper that answers after -delay. For bench/cluster.
//
//	fake_kubelet -plugins NAME=sha256:...[,NAME=...] [-delay 20ms]
//
// Prints the port that it listens on (TLS, loopback, a certificate that it makes itself); until stdin ends, then one line of JSON: how often it was
// asked what.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	streaming "k8s.io/kubelet/pkg/cri/streaming/remotecommand"
)

type delivery struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
}

type request struct {
	Op         string     `json:"op"`
	Names      []string   `json:"names"`
	Deliveries []delivery `json:"deliveries"`
}

type plugin struct {
	Name          string `json:"name"`
	Presence      string `json:"presence"`
	HasReceipt    bool   `json:"hasReceipt"`
	Revision      string `json:"revision"`
	Digest        string `json:"digest"`
	ReceiptDigest string `json:"receiptDigest"`
	McpMerged     bool   `json:"mcpMerged"`
}

type boxes struct {
	digests map[string]string
	delay   time.Duration
	mutex   sync.Mutex
	adopted map[string]delivery // By pod/plugin.
	calls   map[string]int
}

func frame(payload []byte) []byte {
	out := append([]byte("MBX1R"), binary.BigEndian.AppendUint32(nil, uint32(len(payload)))...)
	return append(out, payload...)
}

func (b *boxes) ExecInContainer(_ context.Context, pod string, _ types.UID, _ string, argv []string, in io.Reader, out, _ io.WriteCloser, _ bool,
	_ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	time.Sleep(b.delay)
	if !strings.Contains(strings.Join(argv, " "), "box-helper") {
		return errors.New("only the helper is here")
	}
	head := make([]byte, 9)
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[5:]))
	if _, err := io.ReadFull(in, payload); err != nil {
		return err
	}
	var asked request
	if err := json.Unmarshal(payload, &asked); err != nil {
		return err
	}
	reply, _ := json.Marshal(b.answer(pod, asked))
	_, err := io.Copy(out, bytes.NewReader(frame(reply)))
	return err
}

func (b *boxes) answer(pod string, asked request) map[string]any {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.calls[asked.Op]++
	switch asked.Op {
	case "probe":
		for _, d := range asked.Deliveries { // To be recorded first, if these are its bytes.
			if b.digests[d.Name] == d.Digest {
				b.adopted[pod+"/"+d.Name] = d
			}
		}
		plugins := []plugin{}
		for _, name := range asked.Names {
			digest, here := b.digests[name]
			if !here {
				plugins = append(plugins, plugin{Name: name, Presence: "Absent", McpMerged: true})
				continue
			}
			receipt, adopted := b.adopted[pod+"/"+name]
			plugins = append(plugins, plugin{name, "Present", adopted, receipt.Revision, digest, receipt.Digest, true})
		}
		return map[string]any{"plugins": plugins}
	case "adopt":
		results := []map[string]any{}
		for _, d := range asked.Deliveries {
			b.adopted[pod+"/"+d.Name] = d
			results = append(results, map[string]any{"name": d.Name})
		}
		return map[string]any{"results": results}
	case "agent":
		return map[string]any{"agentRunning": true}
	default: // Nothing else is owed; it is counted.
		return map[string]any{}
	}
}

func certificate() tls.Certificate {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, _ := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	plugins := flag.String("plugins", "", "name=digest, by commas")
	delay := flag.Duration("delay", 20*time.Millisecond, "of each answer")
	flag.Parse()
	b := &boxes{digests: map[string]string{}, delay: *delay, adopted: map[string]delivery{}, calls: map[string]int{}}
	for _, one := range strings.Split(*plugins, ",") {
		name, digest, _ := strings.Cut(one, "=")
		b.digests[name] = digest
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake_kubelet:", err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/", func(w http.ResponseWriter, r *http.Request) {
		// /exec/NAMESPACE/POD/CONTAINER
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/exec/"), "/")
		options, err := streaming.NewOptions(r)
		if err != nil || len(parts) < 3 {
			http.Error(w, "a bad request for an exec", http.StatusBadRequest)
			return
		}
		streaming.ServeExec(w, r, b, parts[0]+"/"+parts[1], "", parts[len(parts)-1], r.URL.Query()["command"], options, time.Minute, 30*time.Second,
			remotecommandconsts.SupportedStreamingProtocols)
	})
	server := &http.Server{Handler: mux, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	go server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate()}}))
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	json.NewEncoder(os.Stdout).Encode(b.calls)
}
