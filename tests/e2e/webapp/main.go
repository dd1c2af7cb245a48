// The tutorial's application: it logs in to the keystore with its ServiceAccount's token, reads its
// configuration there and shows it at /. Called as `webapp cat FILE…` it prints files of its own pod, as
// `webapp watch FOLDER NAME` it reads one again and again, as `webapp pause` it is a pod's sandbox.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

func call(method, path, token string, body any, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, os.Getenv("VAULT_ADDR")+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("X-Vault-Token", token)
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, reason)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

func configuration() (string, error) {
	jwt, err := os.ReadFile(os.Getenv("JWT_PATH"))
	if err != nil {
		return "", err
	}
	var login struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	credentials := map[string]string{"role": "webapp", "jwt": string(jwt)}
	if err := call("POST", "auth/kubernetes/login", "", credentials, &login); err != nil {
		return "", err
	}
	var secret struct {
		Data struct{ Data map[string]string }
	}
	if err := call("GET", "secret/data/webapp/config", login.Auth.ClientToken, nil, &secret); err != nil {
		return "", err
	}
	var parts []string
	for name, value := range secret.Data.Data {
		parts = append(parts, name+":"+value)
	}
	sort.Strings(parts)
	return strings.Join(parts, " "), nil
}

func serve() {
	http.HandleFunc("/", func(writer http.ResponseWriter, _ *http.Request) {
		text, err := configuration()
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(writer, text)
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("SERVICE_PORT"), nil))
}

func cat(paths []string) {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		os.Stdout.Write(text)
	}
}

// What reading a file gives, and the names beside it, as the file system has them now: its pages are
// dropped from the cache first.
func look(folder, name string) (string, error) {
	file, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return "", err
	}
	defer file.Close()
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	if _, _, wrong := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0); wrong != 0 {
		return "", wrong
	}
	if _, err := os.ReadDir(folder); err != nil {
		return "", err
	}
	text, err := io.ReadAll(file)
	return string(text), err
}

// A line "read …" for each change of what reading gives, and a line "waited …" each time that it took longer
// than ever, and than 10 ms.
func watch(folder, name string) {
	last := ""
	for longest := 10 * time.Millisecond; ; time.Sleep(time.Millisecond) {
		begin := time.Now()
		now, err := look(folder, name)
		took := time.Since(begin)
		if err != nil {
			now = "error: " + err.Error()
		}
		if now != last {
			fmt.Println("read", now)
			last = now
		}
		if took > longest {
			fmt.Println("waited", took.Round(time.Millisecond))
			longest = took
		}
	}
}

func pause() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

func main() {
	log.SetFlags(0)
	arguments := os.Args[1:]
	switch {
	case len(arguments) == 0:
		serve()
	case arguments[0] == "cat":
		cat(arguments[1:])
	case arguments[0] == "watch" && len(arguments) == 3:
		watch(arguments[1], arguments[2])
	case arguments[0] == "pause":
		pause()
	default:
		log.Fatalf("webapp: unknown arguments %q", arguments)
	}
}
