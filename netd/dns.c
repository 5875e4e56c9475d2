/* SPDX-License-Identifier: Apache-2.0 */
/* One DNS message in, one out, by libldns; see dns.h. No I/O. */
#include "netd/dns.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

static void free_pkt(ldns_pkt **p)
{
	ldns_pkt_free(*p);
}
#define CLEANUP_PKT __attribute__((cleanup(free_pkt)))

/* Lower case, no final dot. */
static char *name_text(const ldns_rdf *owner)
{
	char *raw = ldns_rdf2str(owner), *text = str_dup(raw ? raw : "");
	size_t n = strlen(text);

	free(raw);
	if (n && text[n - 1] == '.')
		text[n - 1] = '\0';
	for (char *p = text; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return text;
}

/* "5.1.88.10.in-addr.arpa" or the ip6.arpa form to an address; NULL: neither. */
static char *reverse_address(const char *name)
{
	char text[INET6_ADDRSTRLEN];
	unsigned int a, b, c, d;
	struct in6_addr in6;
	int n = 0;

	if (sscanf(name, "%u.%u.%u.%u.in-addr.arpa%n", &a, &b, &c, &d, &n) == 4 && n > 0 &&
	    !name[n] && a < 256 && b < 256 && c < 256 && d < 256)
		return str_format("%u.%u.%u.%u", d, c, b, a);
	if (strlen(name) != 72 || strcmp(name + 64, "ip6.arpa"))
		return NULL;
	for (int i = 0; i < 32; i++) {
		int digit = (unsigned char)name[i * 2];
		int value = isdigit(digit)		   ? digit - '0'
			    : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
							   : -1;
		uint8_t *byte = &in6.s6_addr[15 - i / 2];

		if (value < 0 || name[i * 2 + 1] != '.')
			return NULL;
		*byte = (uint8_t)(i % 2 ? *byte | value << 4 : value);
	}
	return str_dup(inet_ntop(AF_INET6, &in6, text, sizeof(text)));
}

static ldns_pkt *new_reply(const ldns_pkt *query)
{
	ldns_pkt *reply = ldns_pkt_new();

	if (!reply)
		return NULL;
	ldns_pkt_set_id(reply, ldns_pkt_id(query));
	ldns_pkt_set_qr(reply, true);
	ldns_pkt_set_opcode(reply, ldns_pkt_get_opcode(query));
	ldns_pkt_set_rd(reply, ldns_pkt_rd(query));
	ldns_pkt_set_ra(reply, true);
	for (size_t i = 0; i < ldns_rr_list_rr_count(ldns_pkt_question(query)); i++)
		ldns_pkt_push_rr(reply, LDNS_SECTION_QUESTION,
				 ldns_rr_clone(ldns_rr_list_rr(ldns_pkt_question(query), i)));
	return reply;
}

static int to_wire(const ldns_pkt *reply, uint8_t **out, size_t *out_len)
{
	uint8_t *wire = NULL;
	size_t len = 0;

	if (ldns_pkt2wire(&wire, reply, &len) != LDNS_STATUS_OK)
		return -EIO;
	*out = wire;
	*out_len = len;
	return 0;
}

int dns_error_reply(const uint8_t *query, size_t len, int rcode, uint8_t **out, size_t *out_len)
{
	ldns_pkt *parsed = NULL;
	CLEANUP_PKT ldns_pkt *q = NULL, *reply = NULL;

	if (len < 12)
		return -EINVAL;
	if (ldns_wire2pkt(&parsed, query, len) != LDNS_STATUS_OK) {
		/* Only the header can be trusted. */
		parsed = ldns_pkt_new();
		if (!parsed)
			return -ENOMEM;
		ldns_pkt_set_id(parsed, (uint16_t)(query[0] << 8 | query[1]));
	}
	q = parsed;
	reply = new_reply(q);
	if (!reply)
		return -ENOMEM;
	ldns_pkt_set_rcode(reply, (uint8_t)rcode);
	return to_wire(reply, out, out_len);
}

static void push_address(ldns_pkt *reply, const ldns_rdf *owner, ldns_rr_type want,
			 const char *text)
{
	ldns_rdf *rdf = ldns_rdf_new_frm_str(want == LDNS_RR_TYPE_A	 ? LDNS_RDF_TYPE_A
					     : want == LDNS_RR_TYPE_AAAA ? LDNS_RDF_TYPE_AAAA
									 : LDNS_RDF_TYPE_DNAME,
					     text);
	ldns_rr *rr;

	if (!rdf)
		return; /* of the other family */
	rr = ldns_rr_new();
	if (!rr) {
		ldns_rdf_deep_free(rdf);
		return;
	}
	ldns_rr_set_owner(rr, ldns_rdf_clone(owner));
	ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
	ldns_rr_set_type(rr, want);
	ldns_rr_set_ttl(rr, DNS_TTL);
	ldns_rr_push_rdf(rr, rdf);
	ldns_pkt_push_rr(reply, LDNS_SECTION_ANSWER, rr);
}

static bool is_family(const char *text, ldns_rr_type want)
{
	bool v6 = strchr(text, ':') != NULL;

	return want == LDNS_RR_TYPE_PTR || (want == LDNS_RR_TYPE_AAAA) == v6;
}

/* The reply for a name that is ours; at most as long as the client can take. */
static int answer_with(const ldns_pkt *query, const ldns_rdf *owner, ldns_rr_type type,
		       const json_t *answers, size_t max_len, uint8_t **out, size_t *out_len)
{
	CLEANUP_PKT ldns_pkt *reply = new_reply(query);
	const json_t *value;
	size_t i;
	int r;

	if (!reply)
		return -ENOMEM;
	json_array_foreach (answers, i, value) {
		const char *text = json_string_value(value);

		if (text &&
		    (type == LDNS_RR_TYPE_A || type == LDNS_RR_TYPE_AAAA ||
		     type == LDNS_RR_TYPE_PTR) &&
		    is_family(text, type))
			push_address(reply, owner, type, text);
	}
	r = to_wire(reply, out, out_len);
	if (r == 0 && *out_len > max_len) {
		CLEANUP_PKT ldns_pkt *cut = new_reply(query);

		free(*out);
		*out = NULL;
		if (!cut)
			return -ENOMEM;
		ldns_pkt_set_tc(cut, true);
		r = to_wire(cut, out, out_len);
	}
	return r;
}

enum dns_verdict dns_answer(const uint8_t *query, size_t len, size_t max_len, dns_lookup_fn *lookup,
			    void *ctx, uint8_t **out, size_t *out_len)
{
	ldns_pkt *parsed = NULL;
	CLEANUP_PKT ldns_pkt *q = NULL;
	CLEANUP_FREE char *name = NULL, *address = NULL;
	CLEANUP_JSON json_t *answers = NULL;
	const ldns_rr *question;
	ldns_rr_type type;
	int rcode = 0;

	*out = NULL;
	if (len < 12 || query[2] & 0x80)
		return DNS_IGNORE;
	if (ldns_wire2pkt(&parsed, query, len) != LDNS_STATUS_OK)
		rcode = LDNS_RCODE_FORMERR;
	q = parsed;
	if (!rcode && ldns_pkt_get_opcode(q) != LDNS_PACKET_QUERY)
		rcode = LDNS_RCODE_NOTIMPL;
	else if (!rcode && ldns_rr_list_rr_count(ldns_pkt_question(q)) != 1)
		rcode = LDNS_RCODE_FORMERR;
	if (rcode)
		return dns_error_reply(query, len, rcode, out, out_len) == 0 ? DNS_ANSWER
									     : DNS_IGNORE;
	if (ldns_pkt_edns(q) && ldns_pkt_edns_udp_size(q) > max_len)
		max_len = ldns_pkt_edns_udp_size(q);
	question = ldns_rr_list_rr(ldns_pkt_question(q), 0);
	type = ldns_rr_get_type(question);
	if (ldns_rr_get_class(question) != LDNS_RR_CLASS_IN)
		return DNS_FORWARD;
	name = name_text(ldns_rr_owner(question));
	if (type == LDNS_RR_TYPE_PTR) {
		address = reverse_address(name);
		if (!address)
			return DNS_FORWARD;
	}
	if (!*name || !lookup || lookup(ctx, address ? address : name, &answers) < 0)
		return DNS_FORWARD;
	return answer_with(q, ldns_rr_owner(question), type, answers, max_len, out, out_len) == 0
		       ? DNS_ANSWER
		       : DNS_IGNORE;
}
