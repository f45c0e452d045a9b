// Command sdks checks the schema of the native plugin with Pulumi's own binder, and generates an SDK for each
// language that the module pkg/v3 has a generator for.
//
//	go run . ROOT
//
// ROOT is the repository. The same schema and the same pins give the same bytes.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blang/semver"
	"github.com/hashicorp/hcl/v2"
	gogen "github.com/pulumi/pulumi/pkg/v3/codegen/go"
	"github.com/pulumi/pulumi/pkg/v3/codegen/nodejs"
	"github.com/pulumi/pulumi/pkg/v3/codegen/python"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
)

const generator = "make sdks"

const (
	schemaFile = "provider/pulumi_coreweave_inference/native/schema.json"
	digestFile = "sdks/SHA256SUMS"
)

// What the SDKs follow from.
var sources = []string{schemaFile, "tools/sdks/go.sum", "tools/sdks/main.go"}

// What generators make, but people write better.
var written = []string{"sdks/nodejs/README.md"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sdks ROOT")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sdks:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	text, err := os.ReadFile(filepath.Join(root, schemaFile))
	if err != nil {
		return err
	}
	if err := check(text); err != nil {
		return err
	}
	made := map[string][]byte{}
	for _, language := range []string{"python", "nodejs", "go"} {
		// Each generator changes the package that it gets, so each gets its own.
		pkg, _, err := bind(text)
		if err != nil {
			return err
		}
		files, err := generate(language, pkg)
		if err != nil {
			return fmt.Errorf("%s: %w", language, err)
		}
		for name, content := range files {
			if name := path.Join("sdks", language, name); !slices.Contains(written, name) {
				made[name] = content
			}
		}
	}
	return write(root, made)
}

// check prints all that Pulumi's binder has to say about a schema; errors are fatal.
func check(text []byte) error {
	_, diagnostics, err := bind(text)
	for _, each := range diagnostics {
		severity := "warning"
		if each.Severity == hcl.DiagError {
			severity = "error"
		}
		fmt.Fprintf(os.Stderr, "%s: %s %s\n", severity, each.Summary, each.Detail)
	}
	if err != nil {
		return err
	}
	if diagnostics.HasErrors() {
		return errors.New("the schema has errors")
	}
	return nil
}

func bind(text []byte) (*schema.Package, hcl.Diagnostics, error) {
	var spec schema.PackageSpec
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return nil, nil, err
	}
	return schema.BindSpec(spec, alone{}, schema.ValidationOptions{})
}

// alone is the loader of a schema that refers to no other package.
type alone struct{}

func (alone) LoadPackage(name string, _ *semver.Version) (*schema.Package, error) {
	return nil, fmt.Errorf("the schema refers to the package %s, which is not here", name)
}

func (alone) LoadPackageV2(_ context.Context, of *schema.PackageDescriptor) (*schema.Package, error) {
	return alone{}.LoadPackage(of.Name, nil)
}

func (alone) LoadPackageReference(name string, _ *semver.Version) (schema.PackageReference, error) {
	return nil, fmt.Errorf("the schema refers to the package %s, which is not here", name)
}

func (alone) LoadPackageReferenceV2(
	_ context.Context, of *schema.PackageDescriptor,
) (schema.PackageReference, error) {
	return alone{}.LoadPackageReference(of.Name, nil)
}

func generate(language string, pkg *schema.Package) (map[string][]byte, error) {
	switch language {
	case "python":
		return python.GeneratePackage(generator, pkg, nil, alone{})
	case "nodejs":
		const local = true // npm installs it from its folder, and compiles it there
		return nodejs.GeneratePackage(generator, pkg, nil, nil, local, alone{})
	default:
		return gogen.GeneratePackage(generator, pkg, nil)
	}
}

// write replaces what an earlier run made, and lists the digests of all files that took part.
func write(root string, made map[string][]byte) error {
	earlier, err := listed(filepath.Join(root, digestFile))
	if err != nil {
		return err
	}
	for _, name := range earlier {
		if _, again := made[name]; again || slices.Contains(sources, name) {
			continue
		}
		if err := os.Remove(filepath.Join(root, name)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	digests := map[string][sha256.Size]byte{}
	for name, content := range made {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
		digests[name] = sha256.Sum256(content)
	}
	for _, name := range sources {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		digests[name] = sha256.Sum256(content)
	}
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		fmt.Fprintf(&list, "%x  %s\n", digests[name], name)
	}
	fmt.Printf("%d files in %s\n", len(made), filepath.Join(root, "sdks"))
	return os.WriteFile(filepath.Join(root, digestFile), []byte(list.String()), 0o644)
}

// listed is the names in a list of digests; none if there is no list.
func listed(file string) ([]string, error) {
	content, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var names []string
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if _, name, found := strings.Cut(lines.Text(), "  "); found {
			names = append(names, name)
		}
	}
	return names, nil
}
