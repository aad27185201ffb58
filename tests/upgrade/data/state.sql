PRAGMA application_id = 1397771342;
PRAGMA user_version = 6;
BEGIN TRANSACTION;
CREATE TABLE audit (
      seq INTEGER PRIMARY KEY, at REAL NOT NULL, actor TEXT NOT NULL, via TEXT NOT NULL,
      source TEXT NOT NULL, action TEXT NOT NULL, route TEXT NOT NULL, reason TEXT NOT NULL,
      outcome TEXT NOT NULL, detail TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
      key TEXT NOT NULL, digest TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
    ) STRICT;
INSERT INTO "audit" VALUES(1,1000.0,'test','','','apply','chat','','done','v1 → v2 in 4 steps','','{"generation":1,"killed_to":null,"mirror_percent":0.0,"phase":"Pending","revision":1,"spec":"apiVersion: shiftplane.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: chat}\nspec:\n  proxies: {group: chat}\n  match: {path: {prefix: /v1/}}\n  backends:\n    - {name: v1, endpoints: [\"127.0.0.1:9001\"]}\n    - {name: v2, endpoints: [\"127.0.0.1:9002\"]}\n  stable: v1\n  candidate: v2\n  attributes:\n    user.id: {header: x-user-id}\n  strategy: {canary: {steps: [{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 100}], finalBakeTime: 1m}}\n  \n  analysis:\n    interval: 1s\n    metrics: [{name: success-rate}]\n","weights":{}}','','','0000000000000000000000000000000000000000000000000000000000000000','aa2a01cdbb54ad35518e9a4aca5b68ef42a897290289779893cfa7eb16e36780');
INSERT INTO "audit" VALUES(2,1000.0,'test','','','apply','shadowed','','done','v1 → v2 in 1 step','','{"generation":1,"killed_to":null,"mirror_percent":0.0,"phase":"Pending","revision":1,"spec":"apiVersion: shiftplane.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: shadowed}\nspec:\n  proxies: {group: chat}\n  match: {path: {prefix: /shadowed/}}\n  backends:\n    - {name: v1, endpoints: [\"127.0.0.1:9001\"]}\n    - {name: v2, endpoints: [\"127.0.0.1:9002\"]}\n  stable: v1\n  candidate: v2\n  attributes:\n    user.id: {header: x-user-id}\n  strategy: {shadow: {percentage: 20}}\n","weights":{}}','','','aa2a01cdbb54ad35518e9a4aca5b68ef42a897290289779893cfa7eb16e36780','547196455386f3138024598fd628d534b82abb6ba58d8af29ee1fbcf50aab2c6');
INSERT INTO "audit" VALUES(3,1.6032999999999997271e+03,'ada','','','kill','shadowed','incident 12','done','v1 serves everyone: incident 12','{"generation":1,"killed_to":null,"mirror_percent":20.0,"phase":"Shadowing","revision":2,"weights":{}}','{"generation":1,"killed_to":"v1","mirror_percent":20.0,"phase":"Killed","revision":3,"weights":{}}','','','547196455386f3138024598fd628d534b82abb6ba58d8af29ee1fbcf50aab2c6','9eeeb2e8dff761fc849d6a725f916e42c38373c83eda36bfefb6d31b45585c5d');
CREATE TABLE audit_head (
      one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL
    ) STRICT;
INSERT INTO "audit_head" VALUES(1,3,'9eeeb2e8dff761fc849d6a725f916e42c38373c83eda36bfefb6d31b45585c5d');
CREATE TABLE blocks (
      route TEXT NOT NULL, run INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL
    ) STRICT;
INSERT INTO "blocks" VALUES('chat',1,1601.1,X'789C858DC10AC2300C865FA5E43C462628D457110F618B5AA8ABA6D94046DFDDA6273D2DA7E4FFC2F76F909544E1EC8613628F9D83CC639AA76C518FFE67D0571AF96EE8B281A445B9AE303E48A1A29524D06C2E580F16488AEDE125E149F26911BF17CEDAEC686D370A91273B4BE776A4C3BED4FF4B8FE55ABEA13441A9');
INSERT INTO "blocks" VALUES('chat',1,1.60219999999999981811e+03,X'789C858CC10AC2300C407FA5E43C462A28D45F110F618BAE50574DBB818CFEBB4D4FEEB49C92F7C2DB2065920C57632F687BDB19483CC4794C8A7A747F83AEDAC04F55B70D242E99EB0AC34419AA5A493CCDDA82F5A44062680F6FF12F926F43FC5938E55647ACE0413EF0A867E9CC41D41E47DD3E7A2EF7F203A2DE41AB');
INSERT INTO "blocks" VALUES('chat',1,1.6032999999999997271e+03,X'789C858CC10AC2300C407FA5E43C463A70587F453C842DD3425D35ED0663F4DF6D7B514FCB29792FBC1D4224897051BAC7AED5E63BE74641E0C1CF6328BAC51F67D064EBF85ED47507F14BE4BCC2F0A00859AD2496E6D285B52B40BCAB0F2FB14F92AD227E2F1C62AD23663091753C963335EA20AA8FA3E63F7A4AB7F4011D6F4457');
CREATE TABLE days (
      route TEXT NOT NULL, day TEXT NOT NULL, variant TEXT NOT NULL, role TEXT NOT NULL, counts TEXT NOT NULL,
      PRIMARY KEY (route, day, variant, role)
    ) STRICT;
CREATE TABLE events (
      seq INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL,
      event TEXT, spec TEXT
    , phase TEXT, generation INTEGER, revision INTEGER, weights TEXT, file TEXT) STRICT;
INSERT INTO "events" VALUES(1,'chat',1000.0,'test','{"route":"chat","program":{"stable":"v1","candidate":"v2","steps":[{"weight":500,"kind":"setWeight"},{"duration":3600.0,"kind":"pause"},{"weight":10000,"kind":"setWeight"},{"duration":60.0,"kind":"bake"}],"convergence_timeout":60.0,"progress_deadline":7200.0,"spreads":[],"serve":"v1","killed":null,"checked":[],"keep_warm":0.0,"judged":true,"patience":3600.0,"undecided":"Hold"},"digest":"a615531e95c621fc","actor":"test","reason":"","kind":"spec"}','apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  proxies: {group: chat}
  match: {path: {prefix: /v1/}}
  backends:
    - {name: v1, endpoints: ["127.0.0.1:9001"]}
    - {name: v2, endpoints: ["127.0.0.1:9002"]}
  stable: v1
  candidate: v2
  attributes:
    user.id: {header: x-user-id}
  strategy: {canary: {steps: [{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 100}], finalBakeTime: 1m}}
  
  analysis:
    interval: 1s
    metrics: [{name: success-rate}]
','Pending',1,1,'{}','test.yaml');
INSERT INTO "events" VALUES(2,'chat',1000.0,'proxies','{"revision":1,"acked":1,"connected":1,"kind":"converged"}',NULL,'Progressing',1,2,'{"v2": 500}',NULL);
INSERT INTO "events" VALUES(3,'chat',1000.0,'proxies','{"revision":2,"acked":1,"connected":1,"kind":"converged"}',NULL,'Progressing',1,2,'{"v2": 500}',NULL);
INSERT INTO "events" VALUES(4,'shadowed',1000.0,'test','{"route":"shadowed","program":{"stable":"v1","candidate":"v2","steps":[{"percentage":2000,"duration":null,"min_pairs":null,"tokens_per_second":null,"required":"NotDifferent","kind":"shadow"}],"convergence_timeout":60.0,"progress_deadline":7200.0,"spreads":[],"serve":"v1","killed":null,"checked":[],"keep_warm":0.0,"judged":false,"patience":3600.0,"undecided":"Hold"},"digest":"7c8ab56001fca46a","actor":"test","reason":"","kind":"spec"}','apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: shadowed}
spec:
  proxies: {group: chat}
  match: {path: {prefix: /shadowed/}}
  backends:
    - {name: v1, endpoints: ["127.0.0.1:9001"]}
    - {name: v2, endpoints: ["127.0.0.1:9002"]}
  stable: v1
  candidate: v2
  attributes:
    user.id: {header: x-user-id}
  strategy: {shadow: {percentage: 20}}
','Pending',1,1,'{}','test.yaml');
INSERT INTO "events" VALUES(5,'shadowed',1000.0,'proxies','{"revision":1,"acked":1,"connected":1,"kind":"converged"}',NULL,'Shadowing',1,2,'{}',NULL);
INSERT INTO "events" VALUES(6,'shadowed',1000.0,'proxies','{"revision":2,"acked":1,"connected":1,"kind":"converged"}',NULL,'Shadowing',1,2,'{}',NULL);
INSERT INTO "events" VALUES(7,'shadowed',1600.0,'collector','{"pairs":300,"likeness":"Equivalent","detail":"400 pairs with a noise baseline and 400 in all: no measure differs by more than its margin","kind":"evidence"}',NULL,'Shadowing',1,2,'{}',NULL);
INSERT INTO "events" VALUES(8,'chat',1600.0,'analysis','{"finding":"NoData","detail":"success-rate: no requests of both arms were seen together","kind":"verdict"}',NULL,'Progressing',1,2,'{"v2": 500}',NULL);
INSERT INTO "events" VALUES(9,'chat',1601.1,'analysis','{"finding":"Inconclusive","detail":"success-rate: 99.00% (1 of 100 failed) against 99.44% (5 of 900 failed); undecided, no odds ratio excluded yet","kind":"verdict"}',NULL,'Progressing',1,2,'{"v2": 500}',NULL);
INSERT INTO "events" VALUES(10,'shadowed',1.6032999999999997271e+03,'ada','{"command":"kill","actor":"ada","reason":"incident 12","kind":"command"}',NULL,'Killed',1,3,'{}',NULL);
INSERT INTO "events" VALUES(11,'shadowed',1.6032999999999997271e+03,'proxies','{"revision":3,"acked":1,"connected":1,"kind":"converged"}',NULL,'Killed',1,3,'{}',NULL);
CREATE TABLE notified (target TEXT PRIMARY KEY, seq INTEGER NOT NULL, place INTEGER NOT NULL) STRICT;
CREATE TABLE records (
      seq INTEGER NOT NULL REFERENCES events (seq), place INTEGER NOT NULL, what TEXT NOT NULL,
      message TEXT NOT NULL, PRIMARY KEY (seq, place)
    ) STRICT;
INSERT INTO "records" VALUES(1,0,'accepted','v1 → v2 in 4 steps');
INSERT INTO "records" VALUES(2,0,'step_began','weight 5 % for v2');
INSERT INTO "records" VALUES(3,0,'step_held','weight 5 %: 1 of 1 proxies hold it');
INSERT INTO "records" VALUES(3,1,'step_began','pause 1 h');
INSERT INTO "records" VALUES(4,0,'accepted','v1 → v2 in 1 step');
INSERT INTO "records" VALUES(5,0,'step_began','20 % of requests are copied to v2');
INSERT INTO "records" VALUES(7,0,'likeness','Equivalent: 400 pairs with a noise baseline and 400 in all: no measure differs by more than its margin');
INSERT INTO "records" VALUES(8,0,'verdict','NoData: success-rate: no requests of both arms were seen together');
INSERT INTO "records" VALUES(9,0,'verdict','Inconclusive: success-rate: 99.00% (1 of 100 failed) against 99.44% (5 of 900 failed); undecided, no odds ratio excluded yet');
INSERT INTO "records" VALUES(10,0,'killed','v1 serves everyone: incident 12');
INSERT INTO "records" VALUES(11,0,'kill_held','1 of 1 proxies, 0 ms');
CREATE TABLE routes (
      name TEXT PRIMARY KEY, seq INTEGER NOT NULL, spec TEXT NOT NULL, file TEXT NOT NULL, state TEXT NOT NULL
    ) STRICT;
INSERT INTO "routes" VALUES('chat',9,'apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  proxies: {group: chat}
  match: {path: {prefix: /v1/}}
  backends:
    - {name: v1, endpoints: ["127.0.0.1:9001"]}
    - {name: v2, endpoints: ["127.0.0.1:9002"]}
  stable: v1
  candidate: v2
  attributes:
    user.id: {header: x-user-id}
  strategy: {canary: {steps: [{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 100}], finalBakeTime: 1m}}
  
  analysis:
    interval: 1s
    metrics: [{name: success-rate}]
','test.yaml','{"route":"chat","revision":2,"generation":1,"digest":"a615531e95c621fc","program":{"stable":"v1","candidate":"v2","steps":[{"weight":500,"kind":"setWeight"},{"duration":3600.0,"kind":"pause"},{"weight":10000,"kind":"setWeight"},{"duration":60.0,"kind":"bake"}],"convergence_timeout":60.0,"progress_deadline":7200.0,"spreads":[],"serve":"v1","killed":null,"checked":[],"keep_warm":0.0,"judged":true,"patience":3600.0,"undecided":"Hold"},"phase":"Progressing","outcome":null,"step":1,"splits":[{"name":"strategy","segments":[{"variant":"v2","slots":500},{"variant":"v1","slots":9500}]}],"mirror":0,"published_at":1000.0,"converged":true,"step_began_at":1000.0,"ends_at":4600.0,"resumes":null,"left":null,"message":"","healthy":[],"dead":[],"pairs_before":null,"proven":false,"likeness":"","budgeted_at":null,"kill":null,"warm_until":null,"run":1,"finding":"Inconclusive"}');
INSERT INTO "routes" VALUES('shadowed',11,'apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: shadowed}
spec:
  proxies: {group: chat}
  match: {path: {prefix: /shadowed/}}
  backends:
    - {name: v1, endpoints: ["127.0.0.1:9001"]}
    - {name: v2, endpoints: ["127.0.0.1:9002"]}
  stable: v1
  candidate: v2
  attributes:
    user.id: {header: x-user-id}
  strategy: {shadow: {percentage: 20}}
','test.yaml','{"route":"shadowed","revision":3,"generation":1,"digest":"7c8ab56001fca46a","program":{"stable":"v1","candidate":"v2","steps":[{"percentage":2000,"duration":null,"min_pairs":null,"tokens_per_second":null,"required":"NotDifferent","kind":"shadow"}],"convergence_timeout":60.0,"progress_deadline":7200.0,"spreads":[],"serve":"v1","killed":null,"checked":[],"keep_warm":0.0,"judged":false,"patience":3600.0,"undecided":"Hold"},"phase":"Killed","outcome":null,"step":0,"splits":[{"name":"strategy","segments":[{"variant":"v1","slots":10000}]}],"mirror":2000,"published_at":1603.2999999999997,"converged":true,"step_began_at":1000.0,"ends_at":null,"resumes":null,"left":null,"message":"killed: 1 of 1 proxies, 0 ms","healthy":[],"dead":[],"pairs_before":null,"proven":false,"likeness":"Equivalent","budgeted_at":null,"kill":{"serve":"v1","actor":"ada","reason":"incident 12","at":1603.2999999999997,"by_spec":false,"phase":"Shadowing","left":null},"warm_until":null,"run":1,"finding":null}');
CREATE TABLE sessions (
      digest TEXT PRIMARY KEY, name TEXT NOT NULL, via TEXT NOT NULL, grants TEXT NOT NULL,
      csrf TEXT NOT NULL, created_at REAL NOT NULL, seen_at REAL NOT NULL, expires_at REAL NOT NULL,
      token TEXT REFERENCES tokens (id) ON DELETE CASCADE
    ) STRICT;
CREATE TABLE tokens (
      id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, grants TEXT NOT NULL,
      created_at REAL NOT NULL, created_by TEXT NOT NULL, expires_at REAL NOT NULL, last_used_at REAL,
      first INTEGER NOT NULL
    ) STRICT;
CREATE INDEX events_of_route ON events (route, seq);
CREATE INDEX blocks_of_route ON blocks (route, at);
CREATE INDEX blocks_by_age ON blocks (at);
CREATE INDEX audit_of_route ON audit (route, seq);
CREATE INDEX audit_by_key ON audit (actor, key) WHERE key <> '';
CREATE INDEX audit_deletions ON audit (route, seq) WHERE action = 'delete' AND outcome <> 'refused';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',11);
COMMIT;
