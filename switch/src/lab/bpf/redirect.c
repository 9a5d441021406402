// Sends IPv4 packets that an interface receives straight to the interface where their destination is, past the bridge.
//
//   clang -O2 -g -target bpf -c redirect.c -o redirect.o && llvm-strip -g redirect.o
//
// Cilium does the same between containers of a host (bpf_lxc.c). Everything else goes on to the bridge: ARP above all,
// by which the two learn each other's hardware address. Without kernel headers, so that nothing but clang is needed.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define BE16(value) (u16)(((value) << 8 & 0xff00) | ((value) >> 8 & 0xff))

// include/uapi/linux/bpf.h: struct __sk_buff as far as data_end.
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex,
		ifindex, tc_index, cb[5], hash, tc_classid, data, data_end;
};

// include/uapi/linux/bpf.h: BPF_MAP_TYPE_HASH; helpers by their numbers.
#define BPF_MAP_TYPE_HASH 1
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;

// include/uapi/linux/pkt_cls.h: go on as if the program were not there.
#define TC_ACT_OK 0

// What BTF says of the map: each value is the number of elements of an array type.
struct {
	int (*type)[BPF_MAP_TYPE_HASH];
	int (*max_entries)[64];
	u32 *key;
	u32 *value;
} TARGETS SEC(".maps");

SEC("classifier")
int redirect(struct __sk_buff *skb)
{
	const u8 *data = (const u8 *)(u64)skb->data;
	const u8 *end = (const u8 *)(u64)skb->data_end;
	u32 destination, *target;

	// Ethernet and an IPv4 header.
	if (data + 14 + 20 > end || skb->protocol != BE16(0x0800))
		return TC_ACT_OK;
	destination = *(const u32 *)(data + 14 + 16);
	target = bpf_map_lookup_elem(&TARGETS, &destination);
	return target ? bpf_redirect(*target, 0) : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Apache-2.0";
