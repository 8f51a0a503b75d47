FROM localhost/base
COPY . /all/
