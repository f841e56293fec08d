// http2 SECURE_URL AUTHORITY: features of HTTP/1.1 and HTTP/2 by Go's own client, a line of JSON for each.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

type feature struct {
	name string
	run  func(*http.Client, string) error
}

func get(client *http.Client, url string) (*http.Response, []byte, error) {
	answer, err := client.Get(url)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer, body, err
}

func expect(truth bool, format string, values ...interface{}) error {
	if truth {
		return nil
	}
	return fmt.Errorf(format, values...)
}

var big = bytes.Repeat([]byte("gopher"), 1<<20)

var features = []feature{
	{"GET", func(client *http.Client, url string) error {
		answer, body, err := get(client, url+"/echo")
		if err != nil {
			return err
		}
		return expect(answer.StatusCode == 200 && string(body) == "hello", "%d %q", answer.StatusCode, body)
	}},
	{"6 MiB up and down", func(client *http.Client, url string) error {
		answer, err := client.Post(url+"/echo", "text/plain", bytes.NewReader(big))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		return expect(bytes.Equal(body, big), "%d bytes came back", len(body))
	}},
	{"upload of unknown length", func(client *http.Client, url string) error {
		answer, err := client.Post(url+"/echo", "text/plain", io.MultiReader(bytes.NewReader(big)))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		return expect(bytes.Equal(body, big), "%d bytes came back", len(body))
	}},
	{"100 at the same time", func(client *http.Client, url string) error {
		var group sync.WaitGroup
		failures := make(chan error, 100)
		for n := 1; n <= 100; n++ {
			group.Add(1)
			go func(size int) {
				defer group.Done()
				_, body, err := get(client, fmt.Sprintf("%s/big?size=%d", url, size))
				if err == nil {
					err = expect(len(body) == size, "%d bytes instead of %d", len(body), size)
				}
				if err != nil {
					failures <- err
				}
			}(n * 700)
		}
		group.Wait()
		close(failures)
		return <-failures
	}},
	{"a request taken back", func(client *http.Client, url string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, "GET", url+"/events", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err == nil {
			_, err = io.ReadAll(answer.Body)
			answer.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("ended with %v", err)
		}
		_, body, err := get(client, url+"/echo")
		if err != nil {
			return err
		}
		return expect(string(body) == "hello", "%q", body)
	}},
	{"Expect: 100-continue", func(client *http.Client, url string) error {
		request, err := http.NewRequest("POST", url+"/echo", strings.NewReader("wait"))
		if err != nil {
			return err
		}
		request.Header.Set("Expect", "100-continue")
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		return expect(string(body) == "wait", "%q", body)
	}},
	{"HEAD, 204 and 304", func(client *http.Client, url string) error {
		answer, err := client.Head(url + "/big?size=1000")
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.ContentLength != 1000 {
			return fmt.Errorf("length %d", answer.ContentLength)
		}
		for _, status := range []int{204, 304} {
			answer, body, err := get(client, fmt.Sprintf("%s/status/%d", url, status))
			if err != nil {
				return err
			}
			if answer.StatusCode != status || len(body) != 0 {
				return fmt.Errorf("%d %q", answer.StatusCode, body)
			}
		}
		return nil
	}},
}

func main() {
	url, authority := os.Args[1], os.Args[2]
	pem, err := os.ReadFile(authority)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	lines := json.NewEncoder(os.Stdout)
	for _, version := range []string{"HTTP/2.0", "HTTP/1.1"} {
		transport := &http.Transport{
			TLSClientConfig:       &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2:     version == "HTTP/2.0",
			ExpectContinueTimeout: 5 * time.Second,
		}
		if version == "HTTP/1.1" {
			transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		spoken := feature{"is spoken", func(client *http.Client, url string) error {
			answer, _, err := get(client, url+"/echo")
			if err != nil {
				return err
			}
			return expect(answer.Proto == version, "%s", answer.Proto)
		}}
		for _, one := range append([]feature{spoken}, features...) {
			told := map[string]interface{}{"feature": version + ": " + one.name, "ok": true}
			if err := one.run(client, url); err != nil {
				told["ok"], told["detail"] = false, err.Error()
			}
			if err := lines.Encode(told); err != nil {
				panic(err)
			}
		}
	}
}
