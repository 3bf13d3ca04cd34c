CREATE TABLE public.assignments (
    device character varying(64) NOT NULL,
    number bigint NOT NULL,
    bundle character varying(71),
    rollout character varying(64),
    stage integer,
    permit_downgrade boolean NOT NULL,
    expires_ms bigint NOT NULL,
    phase character varying(16) NOT NULL,
    code character varying(64) NOT NULL,
    detail character varying(500) NOT NULL,
    created_ms bigint NOT NULL,
    changed_ms bigint NOT NULL
);
CREATE TABLE public.audit (
    id bigint NOT NULL,
    at_ms bigint NOT NULL,
    actor character varying(64) NOT NULL,
    action character varying(64) NOT NULL,
    subject character varying(128) NOT NULL,
    detail json NOT NULL
);
CREATE SEQUENCE public.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_id_seq OWNED BY public.audit.id;
CREATE TABLE public.bundles (
    digest character varying(71) NOT NULL,
    counter bigint NOT NULL,
    profile character varying(64) NOT NULL,
    archive character varying(71) NOT NULL,
    archive_bytes bigint NOT NULL,
    manifest text NOT NULL,
    key_id character varying(32) NOT NULL
);
CREATE TABLE public.devices (
    id character varying(64) NOT NULL,
    public_key bytea NOT NULL,
    profile json NOT NULL,
    labels json NOT NULL,
    credential character varying(64) NOT NULL,
    enrolled_ms bigint NOT NULL,
    revoked_ms bigint,
    last_seen_ms bigint,
    state json,
    state_n bigint NOT NULL,
    epoch character varying(16)
);
CREATE TABLE public.envelopes (
    id bigint NOT NULL,
    device character varying(64) NOT NULL,
    epoch character varying(16) NOT NULL,
    seq bigint NOT NULL,
    prev bytea NOT NULL,
    chain bytea NOT NULL,
    received_ms bigint NOT NULL,
    raw bytea NOT NULL
);
CREATE SEQUENCE public.envelopes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.envelopes_id_seq OWNED BY public.envelopes.id;
CREATE TABLE public.events (
    id bigint NOT NULL,
    device character varying(64) NOT NULL,
    epoch character varying(16) NOT NULL,
    seq bigint NOT NULL,
    received_ms bigint NOT NULL,
    name character varying(64) NOT NULL,
    time_ms bigint NOT NULL,
    bundle character varying(71),
    assignment bigint,
    code character varying(64) NOT NULL,
    detail character varying(500) NOT NULL
);
CREATE SEQUENCE public.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_id_seq OWNED BY public.events.id;
CREATE TABLE public.forks (
    device character varying(64) NOT NULL,
    epoch character varying(16) NOT NULL,
    seq bigint NOT NULL,
    chain bytea NOT NULL,
    received_ms bigint NOT NULL,
    raw bytea NOT NULL
);
CREATE TABLE public.gaps (
    id bigint NOT NULL,
    device character varying(64) NOT NULL,
    epoch character varying(16) NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    records bigint NOT NULL,
    reason character varying(100) NOT NULL,
    received_ms bigint NOT NULL
);
CREATE SEQUENCE public.gaps_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.gaps_id_seq OWNED BY public.gaps.id;
CREATE TABLE public.meta (
    key character varying(64) NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.publishers (
    key_id character varying(32) NOT NULL,
    public_key bytea NOT NULL,
    label character varying(128) NOT NULL,
    added_ms bigint NOT NULL
);
CREATE TABLE public.refusals (
    reason character varying(64) NOT NULL,
    device character varying(64) NOT NULL,
    count bigint NOT NULL,
    last_ms bigint NOT NULL,
    detail character varying(500) NOT NULL
);
CREATE TABLE public.releases (
    counter bigint NOT NULL,
    name character varying(64) NOT NULL,
    version character varying(64) NOT NULL,
    created_ms bigint NOT NULL
);
CREATE TABLE public.rollout_members (
    rollout character varying(64) NOT NULL,
    device character varying(64) NOT NULL,
    stage integer NOT NULL,
    bundle character varying(71) NOT NULL,
    previous character varying(71),
    number bigint NOT NULL,
    back bigint
);
CREATE TABLE public.rollout_stages (
    rollout character varying(64) NOT NULL,
    stage integer NOT NULL,
    begun_ms bigint NOT NULL,
    verdicts json NOT NULL
);
CREATE TABLE public.rollout_steps (
    id bigint NOT NULL,
    rollout character varying(64) NOT NULL,
    at_ms bigint NOT NULL,
    event character varying(16) NOT NULL,
    phase character varying(16) NOT NULL,
    stage integer NOT NULL,
    actor character varying(64) NOT NULL,
    why text NOT NULL
);
CREATE SEQUENCE public.rollout_steps_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.rollout_steps_id_seq OWNED BY public.rollout_steps.id;
CREATE TABLE public.rollouts (
    id character varying(64) NOT NULL,
    plan json NOT NULL,
    counter bigint NOT NULL,
    phase character varying(16) NOT NULL,
    stage integer NOT NULL,
    since_ms bigint NOT NULL,
    started_ms bigint,
    why text NOT NULL,
    created_ms bigint NOT NULL,
    created_by character varying(64) NOT NULL,
    revision integer NOT NULL
);
CREATE TABLE public.streams (
    device character varying(64) NOT NULL,
    epoch character varying(16) NOT NULL,
    high bigint NOT NULL,
    chain bytea NOT NULL,
    started_ms bigint NOT NULL
);
CREATE TABLE public.tokens (
    id character varying(32) NOT NULL,
    hash character varying(64) NOT NULL,
    role character varying(16) NOT NULL,
    label character varying(128) NOT NULL,
    device_labels json NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint,
    used_ms bigint,
    used_by character varying(64),
    revoked_ms bigint,
    parent character varying(32)
);
CREATE TABLE public.windows (
    id bigint NOT NULL,
    device character varying(64) NOT NULL,
    epoch character varying(16) NOT NULL,
    seq bigint NOT NULL,
    received_ms bigint NOT NULL,
    bundle character varying(71) NOT NULL,
    artifact character varying(64) NOT NULL,
    runtime character varying(64) NOT NULL,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    duration_ms bigint NOT NULL,
    inferences bigint NOT NULL,
    errors bigint NOT NULL,
    refused bigint NOT NULL,
    reasons json NOT NULL,
    latency json NOT NULL,
    scalars json NOT NULL,
    golden_total bigint NOT NULL,
    golden_agree bigint NOT NULL,
    cpu_s double precision NOT NULL,
    rss_bytes bigint NOT NULL,
    temperature_c double precision,
    trial boolean NOT NULL
);
CREATE SEQUENCE public.windows_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.windows_id_seq OWNED BY public.windows.id;
ALTER TABLE ONLY public.audit ALTER COLUMN id SET DEFAULT nextval('public.audit_id_seq'::regclass);
ALTER TABLE ONLY public.envelopes ALTER COLUMN id SET DEFAULT nextval('public.envelopes_id_seq'::regclass);
ALTER TABLE ONLY public.events ALTER COLUMN id SET DEFAULT nextval('public.events_id_seq'::regclass);
ALTER TABLE ONLY public.gaps ALTER COLUMN id SET DEFAULT nextval('public.gaps_id_seq'::regclass);
ALTER TABLE ONLY public.rollout_steps ALTER COLUMN id SET DEFAULT nextval('public.rollout_steps_id_seq'::regclass);
ALTER TABLE ONLY public.windows ALTER COLUMN id SET DEFAULT nextval('public.windows_id_seq'::regclass);
INSERT INTO public.assignments VALUES ('d1', 1, 'sha256:abababababababababababababababababababababababababababababababab', 'r1', 0, false, 0, 'assigned', '', '', 3, 4);
INSERT INTO public.audit VALUES (1, 1, 'local', 'token created', 't1', '{"role": "admin"}');
INSERT INTO public.bundles VALUES ('sha256:abababababababababababababababababababababababababababababababab', 7, 'x86-cpu', 'sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 10, '{}
', 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk');
INSERT INTO public.devices VALUES ('d1', '\x947ddadc82b85d397d8964d01984c142293385580554e2a1c5ef2c9145682937', '["x86-cpu"]', '{}', 'c', 1, NULL, 6000, '{"v": 1, "type": "hello", "device": "d1", "n": 1, "epoch": "a3165a5c4e6a2fa4", "next_seq": 0, "agent": "0.1.0", "profile": ["x86-cpu"], "counter": 0, "active": null, "progress": null, "time_ms": 1}', 1, 'a3165a5c4e6a2fa4');
INSERT INTO public.envelopes VALUES (1, 'd1', 'a3165a5c4e6a2fa4', 0, '\x00000000000000000000000000000000', '\x590b4a72980667dececebb0bf17f86e1', 6000, '\xd2845826a201270458206438393362373864383038353638333462626232643031666433623930336164a0590162a56176016565706f63687061333136356135633465366132666134637365710064707265765000000000000000000000000000000000647265637381b3646b696e646677696e646f776662756e646c6578477368613235363a6162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616268617274696661637464696e74386772756e74696d65686c697465727420326873746172745f6d731903e866656e645f6d731907d06b6475726174696f6e5f6d731903e86a696e666572656e6365730a666572726f7273a06772656675736564a067666c6167676564a06a6c6174656e63795f6d73a16462696e73a0677363616c617273806c676f6c64656e5f746f74616c006c676f6c64656e5f616772656500656370755f7300697273735f6279746573006d74656d70657261747572655f63f665747269616cf458400e7b1edbb993599f6c61d0bf7e01e986b2aa511ed2da8da9c6948ff2552b7a34f9278249ef37c040877b9d7d97f9f36a9aa64a03dfdc8370ddf2fba0b7ba6401');
INSERT INTO public.envelopes VALUES (2, 'd1', 'a3165a5c4e6a2fa4', 1, '\x590b4a72980667dececebb0bf17f86e1', '\x747c386ee00fb4d10944ccdf1d3af199', 6000, '\xd2845826a201270458206438393362373864383038353638333462626232643031666433623930336164a0590162a56176016565706f636870613331363561356334653661326661346373657101647072657650590b4a72980667dececebb0bf17f86e1647265637381b3646b696e646677696e646f776662756e646c6578477368613235363a6162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616268617274696661637464696e74386772756e74696d65686c697465727420326873746172745f6d731903e866656e645f6d731907d06b6475726174696f6e5f6d731903e86a696e666572656e6365730a666572726f7273a06772656675736564a067666c6167676564a06a6c6174656e63795f6d73a16462696e73a0677363616c617273806c676f6c64656e5f746f74616c006c676f6c64656e5f616772656500656370755f7300697273735f6279746573006d74656d70657261747572655f63f665747269616cf458401698a9c8670706fed2734b50fee1c0a36ce72e49c3bd7d1c2b03e9deb3f0bf0cc29be43afff4c36d80f96c184a7109af3a74f56a6af3748f339a1d5b64fb1a00');
INSERT INTO public.envelopes VALUES (3, 'd1', 'a3165a5c4e6a2fa4', 2, '\x747c386ee00fb4d10944ccdf1d3af199', '\x3df86b35edfc2a6f87681d310cc718be', 6000, '\xd2845826a201270458206438393362373864383038353638333462626232643031666433623930336164a05882a56176016565706f636870613331363561356334653661326661346373657102647072657650747c386ee00fb4d10944ccdf1d3af199647265637381a7646b696e64656576656e74646e616d6567737461727465646774696d655f6d731903e86662756e646c65f66a61737369676e6d656e74f664636f6465606664657461696c605840e4d66d872b7726353220fc63653034e3f5d8ff1182af2e8999ff8519763e8f83574a30e8baea847a5d2660ef1e75d933badc76ae5798bbea9e5e199246836f0e');
INSERT INTO public.envelopes VALUES (4, 'd1', 'a3165a5c4e6a2fa4', 3, '\x3df86b35edfc2a6f87681d310cc718be', '\xde9e9684835694fb88ff5633dc89630d', 6000, '\xd2845826a201270458206438393362373864383038353638333462626232643031666433623930336164a05870a56176016565706f6368706133313635613563346536613266613463736571036470726576503df86b35edfc2a6f87681d310cc718be647265637381a5646b696e64636761706966697273745f73657101686c6173745f73657101677265636f7264730166726561736f6e6466756c6c58408204d6368857ce98f123ebd12e33c811838d58909c8eb6a56c1968057d71fd186fee95d877faf54d8563c7786e3f8a6ed38b096357ca938397999254d328ab0f');
INSERT INTO public.events VALUES (1, 'd1', 'a3165a5c4e6a2fa4', 2, 6000, 'started', 1000, NULL, NULL, '', '');
INSERT INTO public.forks VALUES ('d1', 'a3165a5c4e6a2fa4', 0, '\x02020202020202020202020202020202', 6, '\x0303030303030303030303030303030303030303');
INSERT INTO public.gaps VALUES (1, 'd1', 'a3165a5c4e6a2fa4', 1, 1, 1, 'full', 6000);
INSERT INTO public.meta VALUES ('schema_version', '1');
INSERT INTO public.publishers VALUES ('kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk', '\x0101010101010101010101010101010101010101010101010101010101010101', 'p', 1);
INSERT INTO public.refusals VALUES ('replayed', 'd1', 3, 9, 'd');
INSERT INTO public.releases VALUES (7, 'kws', '1.0', 2);
INSERT INTO public.rollout_members VALUES ('r1', 'd1', 0, 'sha256:abababababababababababababababababababababababababababababababab', NULL, 1, NULL);
INSERT INTO public.rollout_stages VALUES ('r1', 0, 5, '[{"gate": "crash", "outcome": "pass", "reason": "r"}]');
INSERT INTO public.rollout_steps VALUES (1, 'r1', 5, 'start', 'running', 0, 'local', 'w');
INSERT INTO public.rollouts VALUES ('r1', '{"id": "r1"}', 7, 'halted', 0, 5, 5, 'why', 4, 'local', 0);
INSERT INTO public.streams VALUES ('d1', 'a3165a5c4e6a2fa4', 3, '\xde9e9684835694fb88ff5633dc89630d', 5000);
INSERT INTO public.tokens VALUES ('t1', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'admin', 'local', '{}', 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.windows VALUES (1, 'd1', 'a3165a5c4e6a2fa4', 0, 6000, 'sha256:abababababababababababababababababababababababababababababababab', 'int8', 'litert 2', 1000, 2000, 1000, 10, 0, 0, '{"errors": {}, "refused": {}}', '{}', '{}', 0, 0, 0, 0, NULL, false);
INSERT INTO public.windows VALUES (2, 'd1', 'a3165a5c4e6a2fa4', 1, 6000, 'sha256:abababababababababababababababababababababababababababababababab', 'int8', 'litert 2', 1000, 2000, 1000, 10, 0, 0, '{"errors": {}, "refused": {}}', '{}', '{}', 0, 0, 0, 0, NULL, false);
SELECT pg_catalog.setval('public.audit_id_seq', 1, true);
SELECT pg_catalog.setval('public.envelopes_id_seq', 4, true);
SELECT pg_catalog.setval('public.events_id_seq', 1, true);
SELECT pg_catalog.setval('public.gaps_id_seq', 1, true);
SELECT pg_catalog.setval('public.rollout_steps_id_seq', 1, true);
SELECT pg_catalog.setval('public.windows_id_seq', 2, true);
ALTER TABLE ONLY public.assignments
    ADD CONSTRAINT assignments_pkey PRIMARY KEY (device, number);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT bundles_archive_key UNIQUE (archive);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT bundles_counter_profile_key UNIQUE (counter, profile);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT bundles_pkey PRIMARY KEY (digest);
ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_public_key_key UNIQUE (public_key);
ALTER TABLE ONLY public.envelopes
    ADD CONSTRAINT envelopes_device_epoch_seq_key UNIQUE (device, epoch, seq);
ALTER TABLE ONLY public.envelopes
    ADD CONSTRAINT envelopes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.forks
    ADD CONSTRAINT forks_pkey PRIMARY KEY (device, epoch, seq, chain);
ALTER TABLE ONLY public.gaps
    ADD CONSTRAINT gaps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.publishers
    ADD CONSTRAINT publishers_pkey PRIMARY KEY (key_id);
ALTER TABLE ONLY public.refusals
    ADD CONSTRAINT refusals_pkey PRIMARY KEY (reason, device);
ALTER TABLE ONLY public.releases
    ADD CONSTRAINT releases_name_version_key UNIQUE (name, version);
ALTER TABLE ONLY public.releases
    ADD CONSTRAINT releases_pkey PRIMARY KEY (counter);
ALTER TABLE ONLY public.rollout_members
    ADD CONSTRAINT rollout_members_pkey PRIMARY KEY (rollout, device);
ALTER TABLE ONLY public.rollout_stages
    ADD CONSTRAINT rollout_stages_pkey PRIMARY KEY (rollout, stage);
ALTER TABLE ONLY public.rollout_steps
    ADD CONSTRAINT rollout_steps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.rollouts
    ADD CONSTRAINT rollouts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (device, epoch);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_hash_key UNIQUE (hash);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.windows
    ADD CONSTRAINT windows_pkey PRIMARY KEY (id);
CREATE INDEX assignments_by_rollout ON public.assignments USING btree (rollout, stage);
CREATE INDEX events_by_device ON public.events USING btree (device, received_ms);
CREATE INDEX gaps_by_stream ON public.gaps USING btree (device, epoch, first_seq);
CREATE INDEX rollout_members_by_device ON public.rollout_members USING btree (device);
CREATE INDEX rollout_steps_by_rollout ON public.rollout_steps USING btree (rollout, id);
CREATE INDEX windows_by_bundle ON public.windows USING btree (bundle, device, received_ms);
CREATE INDEX windows_by_device ON public.windows USING btree (device, received_ms);
ALTER TABLE ONLY public.assignments
    ADD CONSTRAINT assignments_bundle_fkey FOREIGN KEY (bundle) REFERENCES public.bundles(digest);
ALTER TABLE ONLY public.assignments
    ADD CONSTRAINT assignments_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT bundles_counter_fkey FOREIGN KEY (counter) REFERENCES public.releases(counter);
ALTER TABLE ONLY public.envelopes
    ADD CONSTRAINT envelopes_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.forks
    ADD CONSTRAINT forks_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.gaps
    ADD CONSTRAINT gaps_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.rollout_members
    ADD CONSTRAINT rollout_members_bundle_fkey FOREIGN KEY (bundle) REFERENCES public.bundles(digest);
ALTER TABLE ONLY public.rollout_members
    ADD CONSTRAINT rollout_members_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.rollout_members
    ADD CONSTRAINT rollout_members_previous_fkey FOREIGN KEY (previous) REFERENCES public.bundles(digest);
ALTER TABLE ONLY public.rollout_members
    ADD CONSTRAINT rollout_members_rollout_fkey FOREIGN KEY (rollout) REFERENCES public.rollouts(id);
ALTER TABLE ONLY public.rollout_stages
    ADD CONSTRAINT rollout_stages_rollout_fkey FOREIGN KEY (rollout) REFERENCES public.rollouts(id);
ALTER TABLE ONLY public.rollout_steps
    ADD CONSTRAINT rollout_steps_rollout_fkey FOREIGN KEY (rollout) REFERENCES public.rollouts(id);
ALTER TABLE ONLY public.rollouts
    ADD CONSTRAINT rollouts_counter_fkey FOREIGN KEY (counter) REFERENCES public.releases(counter);
ALTER TABLE ONLY public.streams
    ADD CONSTRAINT streams_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
ALTER TABLE ONLY public.windows
    ADD CONSTRAINT windows_device_fkey FOREIGN KEY (device) REFERENCES public.devices(id);
