/* SPDX-License-Identifier: Apache-2.0 */
/* One DNS message in, one out: what is answered, what goes upstream, what is malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ldns/ldns.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "netd/dns.h"

static char asked[256];

static int lookup(void *ctx, const char *name, json_t **answers)
{
	(void)ctx;
	snprintf(asked, sizeof(asked), "%s", name);
	if (!strcmp(name, "db"))
		*answers = json_pack("[s,s]", "10.88.1.5", "fd00::5");
	else if (!strcmp(name, "10.88.1.5") || !strcmp(name, "fd00:88:1::5"))
		*answers = json_pack("[s]", "db");
	else if (!strcmp(name, "many")) {
		*answers = json_array();
		for (int i = 0; i < 200; i++)
			json_array_append_new(*answers, json_sprintf("10.88.1.%d", i));
	} else
		return -ENOENT;
	return 0;
}

static enum dns_verdict ask(const char *name, ldns_rr_type type, size_t max, ldns_pkt **reply)
{
	ldns_pkt *q =
		ldns_pkt_query_new(ldns_dname_new_frm_str(name), type, LDNS_RR_CLASS_IN, LDNS_RD);
	uint8_t *wire = NULL, *out = NULL;
	size_t len = 0, out_len = 0;
	enum dns_verdict v;

	*reply = NULL;
	*asked = '\0';
	ldns_pkt_set_id(q, 0x1234);
	assert_int_equal(ldns_pkt2wire(&wire, q, &len), LDNS_STATUS_OK);
	v = dns_answer(wire, len, max, lookup, NULL, &out, &out_len);
	if (out) {
		assert_true(out_len <= max);
		assert_int_equal(ldns_wire2pkt(reply, out, out_len), LDNS_STATUS_OK);
		assert_int_equal(ldns_pkt_id(*reply), 0x1234);
		assert_true(ldns_pkt_qr(*reply));
	}
	free(out);
	free(wire);
	ldns_pkt_free(q);
	return v;
}

static void expect(const char *name, ldns_rr_type type, const char *value)
{
	CLEANUP_FREE char *text = NULL;
	ldns_pkt *reply;

	assert_int_equal(ask(name, type, 512, &reply), DNS_ANSWER);
	assert_int_equal(ldns_pkt_get_rcode(reply), LDNS_RCODE_NOERROR);
	if (value) {
		assert_int_equal(ldns_pkt_ancount(reply), 1);
		text = ldns_rdf2str(ldns_rr_rdf(ldns_rr_list_rr(ldns_pkt_answer(reply), 0), 0));
		assert_string_equal(text, value);
	} else {
		assert_int_equal(ldns_pkt_ancount(reply), 0);
	}
	ldns_pkt_free(reply);
}

static void test_container_names_are_answered(void **state)
{
	(void)state;
	expect("db", LDNS_RR_TYPE_A, "10.88.1.5");
	expect("DB.", LDNS_RR_TYPE_A, "10.88.1.5");
	expect("db", LDNS_RR_TYPE_AAAA, "fd00::5");
	expect("db", LDNS_RR_TYPE_TXT, NULL); /* the name exists: no NXDOMAIN */
}

static void test_addresses_are_answered_with_names(void **state)
{
	(void)state;
	expect("5.1.88.10.in-addr.arpa", LDNS_RR_TYPE_PTR, "db.");
	expect("5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.8.0.0.0.0.d.f.ip6.arpa",
	       LDNS_RR_TYPE_PTR, "db.");
}

static void test_other_names_go_upstream(void **state)
{
	ldns_pkt *reply;

	(void)state;
	assert_int_equal(ask("example.org", LDNS_RR_TYPE_A, 512, &reply), DNS_FORWARD);
	assert_string_equal(asked, "example.org");
	assert_int_equal(ask("9.9.9.10.in-addr.arpa", LDNS_RR_TYPE_PTR, 512, &reply), DNS_FORWARD);
	assert_string_equal(asked, "10.9.9.9");
	assert_int_equal(ask("x.in-addr.arpa", LDNS_RR_TYPE_PTR, 512, &reply), DNS_FORWARD);
	assert_string_equal(asked, "");
	assert_int_equal(ask("999.1.1.1.in-addr.arpa", LDNS_RR_TYPE_PTR, 512, &reply), DNS_FORWARD);
}

static void test_long_answers_are_cut_for_udp(void **state)
{
	ldns_pkt *reply;

	(void)state;
	assert_int_equal(ask("many", LDNS_RR_TYPE_A, 512, &reply), DNS_ANSWER);
	assert_true(ldns_pkt_tc(reply));
	ldns_pkt_free(reply);
	assert_int_equal(ask("many", LDNS_RR_TYPE_A, 65535, &reply), DNS_ANSWER);
	assert_false(ldns_pkt_tc(reply));
	assert_int_equal(ldns_pkt_ancount(reply), 200);
	ldns_pkt_free(reply);
}

static void test_malformed_messages_are_refused(void **state)
{
	static const uint8_t cut[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5, 'a' };
	static const uint8_t loop[] = { 0x12, 0x34, 1, 0,    0,	 1, 0, 0, 0,
					0,    0,    0, 0xc0, 12, 0, 1, 0, 1 };
	uint8_t answer[sizeof(cut)], notify[12] = { 1, 2, 0x20, 0 }, *out = NULL;
	size_t len = 0;

	(void)state;
	assert_int_equal(dns_answer(cut, 4, 512, lookup, NULL, &out, &len), DNS_IGNORE);
	assert_int_equal(dns_answer(cut, sizeof(cut), 512, lookup, NULL, &out, &len), DNS_ANSWER);
	assert_int_equal(out[3] & 15, LDNS_RCODE_FORMERR);
	assert_int_equal(out[0] << 8 | out[1], 0x1234);
	free(out);
	assert_int_equal(dns_answer(loop, sizeof(loop), 512, lookup, NULL, &out, &len), DNS_ANSWER);
	assert_int_equal(out[3] & 15, LDNS_RCODE_FORMERR);
	free(out);
	/* A reply is no query: answering it would make two servers talk for ever. */
	memcpy(answer, cut, sizeof(cut));
	answer[2] |= 0x80;
	assert_int_equal(dns_answer(answer, sizeof(answer), 512, lookup, NULL, &out, &len),
			 DNS_IGNORE);
	assert_int_equal(dns_answer(notify, sizeof(notify), 512, lookup, NULL, &out, &len),
			 DNS_ANSWER);
	assert_int_equal(out[3] & 15, LDNS_RCODE_NOTIMPL);
	free(out);
}

/* No input crashes it (ASan watches): every message with one byte changed, and cut short. */
static void test_damaged_messages_do_no_harm(void **state)
{
	ldns_pkt *q = ldns_pkt_query_new(ldns_dname_new_frm_str("db"), LDNS_RR_TYPE_A,
					 LDNS_RR_CLASS_IN, LDNS_RD);
	uint8_t *wire = NULL;
	size_t len = 0;

	(void)state;
	assert_int_equal(ldns_pkt2wire(&wire, q, &len), LDNS_STATUS_OK);
	for (size_t i = 0; i < len; i++)
		for (int v = 0; v < 256; v++) {
			uint8_t *copy = malloc(len), *out = NULL;
			size_t out_len;

			memcpy(copy, wire, len);
			copy[i] = (uint8_t)v;
			dns_answer(copy, v % 2 ? len : i, 512, lookup, NULL, &out, &out_len);
			free(out);
			free(copy);
		}
	free(wire);
	ldns_pkt_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_container_names_are_answered),
		cmocka_unit_test(test_addresses_are_answered_with_names),
		cmocka_unit_test(test_other_names_go_upstream),
		cmocka_unit_test(test_long_answers_are_cut_for_udp),
		cmocka_unit_test(test_malformed_messages_are_refused),
		cmocka_unit_test(test_damaged_messages_do_no_harm),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
