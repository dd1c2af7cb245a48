// Package mlog stands in for monis.app/mlog, which no module proxy need have: what the upstream driver calls of it.
package mlog

import (
	"context"
	"os"

	"k8s.io/klog/v2"
)

type Format string

const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// Setup returns what is to run at the end.
func Setup() func() { return klog.Flush }

// ValidateAndSetKlogLevelAndFormatGlobally has nothing to set: klog's flags have, and its format is text.
func ValidateAndSetKlogLevelAndFormatGlobally(context.Context, klog.Level, Format) error { return nil }

func Error(message string, err error) { klog.ErrorS(err, message) }

func Fatal(err error) {
	klog.ErrorS(err, "fatal")
	klog.Flush()
	os.Exit(1)
}
