package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionerName is what a StorageClass names to get its volumes from here.
const provisionerName = "storekeeper.dev/directory"

// directories makes every claimed volume a directory of this node, handed to pods as a `local` volume: those, unlike
// hostPath ones, get the pod's fsGroup, so that a pod that is not root can write to its volume as it could on a disk.
type directories struct {
	root string
	node string
}

// Provision makes the directory first: a volume that the API knows is one that can be mounted. Its mode is that of a
// freshly made file system, which only root may write to, so a pod that forgets its fsGroup fails here as it would on a
// disk. The size is recorded and not enforced.
func (d directories) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	path := filepath.Join(d.root, options.PVName)
	if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
		return nil, controller.ProvisioningFinished, fmt.Errorf("while making the volume's directory: %w", err)
	}
	filesystem := corev1.PersistentVolumeFilesystem
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			VolumeMode:                    &filesystem,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: options.PVC.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity:           onlyOn(d.node),
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

// Delete removes the directory of a volume that was released under the reclaim policy Delete.
func (d directories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(d.root, volume.Name))
}

func onlyOn(node string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}},
		}},
	}}
}

func runVolumes() {
	flags := flag.NewFlagSet("volumes", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "file with the cluster's address and the credentials")
	var volumes directories
	flags.StringVar(&volumes.root, "directory", "", "directory that holds one directory a volume")
	flags.StringVar(&volumes.node, "node", "", "name of the node that has this directory")
	_ = flags.Parse(os.Args[1:])

	if err := volumes.serve(context.Background(), *kubeconfig); err != nil {
		fmt.Fprintln(os.Stderr, "volumes:", err)
		os.Exit(1)
	}
}

// serve answers claims until the process is stopped.
func (d directories) serve(ctx context.Context, kubeconfig string) error {
	if err := os.MkdirAll(d.root, 0o755); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("while reading the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	controller.NewProvisionController(
		ctx, client, provisionerName, d, controller.LeaderElection(false),
	).Run(ctx)
	return nil
}
